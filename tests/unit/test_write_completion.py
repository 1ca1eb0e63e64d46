"""What the signs of a directory say: when a file is looked at, and whether one look is enough."""

from __future__ import annotations

from itertools import product

import pytest

from reconciler.watch.write_completion import SECOND_LOOK_S, UNCLOSED_S, Attention, Sign, Trust

T = 1000.0
WHOLE = (Sign.CLOSED, Sign.MOVED_IN)


def after(*signs: Sign, begin: Attention | None = None) -> Attention:
    """Return the attention after signs that all came at T."""
    attention = begin or Attention()
    for sign in signs:
        attention = attention.noticed(sign, T)
    return attention


@pytest.mark.parametrize(
    ("sign", "look_after_s", "trust"),
    [
        (Sign.CLOSED, 0.0, Trust.ONCE),
        (Sign.MOVED_IN, 0.0, Trust.ONCE),
        (Sign.MODIFIED, UNCLOSED_S, Trust.NONE),
        (Sign.CREATED, SECOND_LOOK_S, Trust.TWICE),
        (Sign.GONE, SECOND_LOOK_S, Trust.TWICE),
    ],
)
def test_a_sign_says_when_to_look_and_what_that_is_worth(
    sign: Sign, look_after_s: float, trust: Trust
) -> None:
    attention = after(sign)
    assert (attention.look_at, attention.trust(T)) == (T + look_after_s, trust)


@pytest.mark.parametrize(
    "signs", list(product(Sign, repeat=3)), ids=lambda signs: "-".join(s.name for s in signs)
)
def test_one_look_decides_exactly_when_the_writer_was_done_at_the_last_sign(
    signs: tuple[Sign, ...],
) -> None:
    """Against an oracle that reads backwards; what goes away behind a whole file is no matter."""
    last = next((sign for sign in reversed(signs) if sign is not Sign.GONE), Sign.GONE)
    assert (after(*signs).trust(T) is Trust.ONCE) == (last in WHOLE)
    assert (after(*signs).trust(T) is Trust.NONE) == (signs[-1] is Sign.MODIFIED)


def test_a_file_written_to_is_waited_for_and_then_looked_at_twice() -> None:
    attention = after(Sign.CREATED, Sign.MODIFIED)
    just_before, over = T + UNCLOSED_S - 0.1, T + UNCLOSED_S
    assert (attention.due(just_before), attention.trust(just_before)) == (False, Trust.NONE)
    assert (attention.due(over), attention.trust(over)) == (True, Trust.TWICE)
    again = attention.looked(over, unsure=True)
    assert (again.look_at, again.trust(over + SECOND_LOOK_S)) == (over + SECOND_LOOK_S, Trust.TWICE)


def test_each_modification_begins_the_waiting_anew() -> None:
    attention = after(Sign.MODIFIED).noticed(Sign.MODIFIED, T + 20.0)
    assert attention.trust(T + 45.0) is Trust.NONE


@pytest.mark.parametrize("sign", list(Sign))
def test_a_doubt_never_makes_a_look_decide_nor_hurries_one_that_is_planned(sign: Sign) -> None:
    assert after(sign).doubted(T + 5.0) == after(sign)
    assert Attention().doubted(T) == Attention(look_at=T)


@pytest.mark.parametrize("sign", list(Sign))
def test_after_signs_were_lost_none_of_them_counts(sign: Sign) -> None:
    assert after(sign).lost(T) == Attention(look_at=T)
    assert after(sign).lost(T).trust(T) is Trust.TWICE


def test_after_a_look_that_decided_nothing_is_due() -> None:
    assert after(Sign.CLOSED).looked(T, unsure=False) == Attention()


def test_a_look_that_decided_nothing_is_repeated_a_second_later() -> None:
    assert Attention(T).looked(T, unsure=True) == Attention(T + SECOND_LOOK_S)
