"""What a reply means: a row per class, and every way an echo can fail to be the one that was sent."""

from __future__ import annotations

import pytest

from reconciler.core.model import Family, Setting
from reconciler.core.reply import (
    AttemptStatus,
    Reply,
    ReplyClass,
    ReplyHandling,
    interpret_reply,
    is_account_error,
    terminal_action,
)
from tests.unit.builders import BTC, ETH, setting

SENT = setting("5000/2000/100")

# class: (status, the reply proves the arrival, what happens next), from the facts' table of replies.
TABLE = {
    ReplyClass.RATE_LIMITED: ("rejected", True, "proceed"),
    ReplyClass.BUSY: ("unknown", True, "back-off"),
    ReplyClass.AMBIGUOUS: ("unknown", False, "proceed"),
    ReplyClass.CLOCK: ("rejected", True, "sync-clock"),
    ReplyClass.WRONG_SETTINGS: ("rejected", True, "park"),
    ReplyClass.NOT_OPEN: ("rejected", True, "park-and-retry"),
    ReplyClass.ACCOUNT: ("rejected", True, "stop-account"),
    ReplyClass.ENVIRONMENT: ("rejected", True, "stop-environment"),
    ReplyClass.UNAVAILABLE: ("rejected", True, "back-off"),
    ReplyClass.OUR_BUG: ("rejected", True, "stop-bug"),
    ReplyClass.NO_ANSWER: ("unknown", False, "proceed"),
    ReplyClass.NOT_SENT: ("not-sent", False, "back-off"),
}


@pytest.mark.parametrize("reply_class", [each for each in ReplyClass if each is not ReplyClass.ACCEPTED])
@pytest.mark.parametrize("echo", [None, ((BTC, SENT),)], ids=["no echo", "an echo all the same"])
def test_every_class_but_accepted_has_its_row(
    reply_class: ReplyClass, echo: tuple[tuple[Family, Setting], ...] | None
) -> None:
    verdict = interpret_reply(BTC, SENT, Reply(reply_class, "any", "text", echo))
    assert (verdict.status, verdict.proves_arrival, verdict.next) == TABLE[reply_class]


@pytest.mark.parametrize("quantity", ["100", "100.0", "100.000"])
def test_an_acceptance_that_echoes_exactly_what_was_sent_is_applied(quantity: str) -> None:
    echo = ((BTC, setting(f"5000/2000/{quantity}")),)
    verdict = interpret_reply(BTC, SENT, Reply(ReplyClass.ACCEPTED, "0", echo=echo))
    assert verdict.status is AttemptStatus.APPLIED
    assert verdict.proves_arrival
    assert verdict.next is ReplyHandling.PROCEED


@pytest.mark.parametrize(
    "echo",
    [
        None,
        (),
        ((BTC, SENT), (BTC, SENT)),
        ((BTC, SENT), (ETH, SENT)),
        ((ETH, SENT),),
        ((BTC, setting("5001/2000/100")),),
        ((BTC, setting("5000/0/100")),),
        ((BTC, setting("5000/2000/100.1")),),
        ((BTC, setting("0/2000/100")),),
    ],
    ids=str,
)
def test_any_other_echo_proves_nothing_not_even_the_arrival(
    echo: tuple[tuple[Family, Setting], ...] | None,
) -> None:
    verdict = interpret_reply(BTC, SENT, Reply(ReplyClass.ACCEPTED, "0", echo=echo))
    assert verdict.status is AttemptStatus.UNKNOWN
    assert not verdict.proves_arrival
    assert verdict.next is ReplyHandling.PROCEED


@pytest.mark.parametrize("reply_class", [each for each in ReplyClass if each is not ReplyClass.ACCEPTED])
@pytest.mark.parametrize("wrapper", ["0", "1", "2"])
def test_a_wrapped_refusal_bounds_the_arrival_and_leaves_the_effect_open(
    reply_class: ReplyClass, wrapper: str
) -> None:
    status, definite, following = TABLE[reply_class]
    verdict = interpret_reply(BTC, SENT, Reply(reply_class, "any", "text", wrapper=wrapper))
    message = "unknown" if status == "rejected" else status
    assert (verdict.status, verdict.proves_arrival, verdict.next) == (message, definite, following)


def test_only_what_left_our_hands_without_proof_stays_unknown() -> None:
    unknown = {each for each, (status, _, _) in TABLE.items() if status == "unknown"}
    assert unknown == {ReplyClass.AMBIGUOUS, ReplyClass.BUSY, ReplyClass.NO_ANSWER}
    assert {next_ for _, _, next_ in TABLE.values()} == {each.value for each in ReplyHandling}


@pytest.mark.parametrize("reply_class", ReplyClass)
def test_a_failed_question_stops_the_writing_only_for_the_account_the_environment_or_a_bug(
    reply_class: ReplyClass,
) -> None:
    failed = Reply(reply_class, "50101", "no")
    stops = {
        ReplyClass.ACCOUNT: ReplyHandling.STOP_ACCOUNT,
        ReplyClass.CLOCK: ReplyHandling.STOP_ACCOUNT,
        ReplyClass.ENVIRONMENT: ReplyHandling.STOP_ENVIRONMENT,
        ReplyClass.OUR_BUG: ReplyHandling.STOP_BUG,
    }
    assert terminal_action(failed) is stops.get(reply_class)
    assert is_account_error(failed) == (reply_class in stops and reply_class is not ReplyClass.OUR_BUG)
