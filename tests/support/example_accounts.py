"""Example states for the page: accounts in every state, built from the events that a real loop emits.

The clock is fixed. Everything a page shows comes through ``runtime.apply_event`` and ``make_plan``, so no
sample can show what the program could not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.events import (
    Compared,
    Event,
    ExchangeFailed,
    Identified,
    LiveReadDone,
    LoopIdle,
    PassEnded,
    RequestReserved,
    RequestSettled,
    SettingRejected,
    StateLockTimedOut,
)
from reconciler.core.live_evidence import Reads
from reconciler.core.model import (
    Environment,
    ExchangeKind,
    Family,
    Field,
    Known,
    LiveRead,
    LiveRow,
    Pause,
    Setting,
    Uncertain,
)
from reconciler.core.monitoring.account_runtime import (
    AccountRuntime,
    FileInForce,
    FileState,
    NeverValid,
    NewerRejected,
    TerminalError,
    apply_event,
    initial,
)
from reconciler.core.monitoring.state_timeline import Segment, Timeline
from reconciler.core.monitoring.unloaded_files import UnloadedFiles
from reconciler.core.pacing import CountedRequest, Ledger
from reconciler.core.plan import PlanConstraints, Reason
from reconciler.core.planning import make_plan
from reconciler.core.policy import Bound, Policy
from reconciler.core.problems import Code, Problem, problem
from reconciler.core.replica_assignment import LEASE_TTL_S, LeaseTable, Replica, ReplicaStatus, lease_name
from reconciler.core.reply import AttemptStatus, Reply, ReplyClass
from reconciler.core.retry import Rejection
from reconciler.web.latest_state import AccountSnapshot, LatestState
from tests.unit.builders import confirmed, desired, read, setting, unresolved

NOW = 50_000.0
WALL = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
FILE = "5000/2000/100"
ADA, BTC, ETH, SOL = (Family(f"{one}-USD") for one in ("ADA", "BTC", "ETH", "SOL"))
XAU, XRP = Family("XAU-USD_UM"), Family("XRP-USD_UM")
SIX = (ADA, BTC, ETH, SOL, XAU, XRP)
HOSTILE = '</p><script>alert("x")</script><img src=x onerror=alert(1)>\x1b[31m\u202e{{ 7 * 7 }}"\'&'

TIGHTER, LOOSER, MIXED, OFF = "5000/2000/40", "5000/2000/900", "5000/9000/900", "0/2000/100"
UNTIL_RESET = "1000/0/500"

Shape = tuple[Known | None, LiveRow | None]
"""The records of a family, and its live row (None: there is none)."""

SHAPES: dict[str, Shape] = {
    "in sync": (confirmed(FILE), LiveRow(setting(FILE))),
    "never applied": (None, None),
    "to be adopted": (None, LiveRow(setting(FILE))),
    "changed": (confirmed(TIGHTER), LiveRow(setting(TIGHTER))),
    "changed, looser live": (confirmed(LOOSER), LiveRow(setting(LOOSER))),
    "drifted looser": (confirmed(FILE), LiveRow(setting(LOOSER))),
    "drifted tighter": (confirmed(FILE), LiveRow(setting(TIGHTER))),
    "drifted mixed": (confirmed(FILE), LiveRow(setting(MIXED))),
    "drifted off": (confirmed(FILE), LiveRow(setting(OFF))),
    "row gone": (confirmed(FILE), None),
    "frozen": (confirmed(FILE), LiveRow(setting(FILE), frozen=True, frozen_until="1772420405000")),
    "frozen and drifted": (confirmed(FILE), LiveRow(setting(LOOSER), frozen=True)),
    "frozen until reset": (confirmed("5000/0/100"), LiveRow(setting("5000/0/100"), frozen=True)),
    "uncertain": (
        Uncertain(confirmed(TIGHTER), (unresolved(FILE, reserved_at=NOW - 9, effect_until=NOW + 26),)),
        LiveRow(setting(TIGHTER)),
    ),
    "uncertain from the start": (
        Uncertain(None, (unresolved(FILE, reserved_at=NOW - 9, effect_until=NOW + 26),)),
        None,
    ),
    "acknowledged, but": (
        Uncertain(confirmed(FILE, at=NOW - 9, attempt=6), (unresolved(LOOSER, effect_until=NOW + 20),)),
        LiveRow(setting(FILE)),
    ),
}
"""Every state of a family, by a name of its own; the file wants ``FILE`` of each."""


def rejection(message: str = "qtyLimit must be greater than 0") -> Reply:
    """Return the exchange's refusal of one family's settings."""
    return Reply(ReplyClass.WRONG_SETTINGS, "51000", message)


LIMITED = Reply(ReplyClass.RATE_LIMITED, "50011", "Rate limit reached")


def runtime(
    shapes: Mapping[Family, Shape],
    *,
    account: str = "main",
    environment: Environment = Environment.LIVE,
    wanted: Mapping[Family, Setting] | None = None,
    unmanaged: Mapping[Family, LiveRow] | None = None,
    ledger: Ledger | None = None,
    rules: PlanConstraints | None = None,
    pauses: tuple[Pause, ...] = (),
    simulator: bool = False,
    live: bool = True,
    path: str = "mmp.yaml",
    read_ago_s: float = 4.0,
    then: Sequence[tuple[float, Event]] = (),
) -> AccountRuntime:
    """Return the runtime of a loop that read and compared ``shapes``, and then received ``then``.

    ``then`` are events, each with how many seconds ago it happened.
    """
    file = desired(wanted or {family: setting(FILE) for family in shapes}, account=account)
    file = replace(file, environment=environment, path=path, sha256="4aff0926" * 8)
    known = {family: one for family, (one, _) in shapes.items() if one is not None}
    rows = {family: row for family, (_, row) in shapes.items() if row is not None}
    seen: LiveRead = read(NOW - read_ago_s, {**rows, **(unmanaged or {})})
    reads = Reads(latest=seen, display=True) if live else Reads()
    rules = rules or PlanConstraints(paused=frozenset(pause.family for pause in pauses))
    ledger = ledger or Ledger(sent=(CountedRequest(1, NOW - 300),))
    plan = make_plan(file, known, reads, rules, NOW)
    host = "127.0.0.1" if simulator else "openapi.okx.com"
    text = initial(file, host=host, simulator=simulator, live=live, now=NOW - 3600)
    events: list[tuple[float, Event]] = [(60.0, Identified("446556540", None))]
    events += [(read_ago_s, LiveReadDone(seen))] if live else []
    events += [(read_ago_s, Compared(file, known, ledger, pauses, rules, plan, complete=True, reads=reads))]
    events += [*then, (min(1.0, read_ago_s), PassEnded(0.2, finished=True))]
    for ago, event in sorted(events, key=lambda one: -one[0]):
        text = apply_event(text, event, now=NOW - ago, wall=WALL - timedelta(seconds=ago))
    return text


def idle(ago_s: float, for_s: float = 30.0) -> tuple[float, Event]:
    """Return the event of a loop that went idle."""
    return ago_s, LoopIdle(NOW - ago_s + for_s)


def request(
    family: Family, ago_s: float, status: AttemptStatus, *, attempt: int, reply: Reply | None = None
) -> list[tuple[float, Event]]:
    """Return the events of one request: reserved, and settled a fifth of a second later."""
    wanted = setting(FILE)
    found: list[tuple[float, Event]] = [(ago_s, RequestReserved(attempt, family, wanted, at=NOW - ago_s))]
    if status is not AttemptStatus.PENDING:
        answer = reply or Reply(ReplyClass.ACCEPTED, "0")
        settled = RequestSettled(attempt, family, wanted, status, answer, 0.2, Reason.CHANGED)
        found.append((ago_s - 0.2, settled))
    return found


def failed(
    ago_s: float, retry_in_s: float | None = 8.0, message: str = "no answer in 10 s"
) -> tuple[float, Event]:
    """Return the event of a live read that failed."""
    reply = Reply(ReplyClass.NO_ANSWER, "timeout", message)
    retry_at = None if retry_in_s is None else NOW + retry_in_s
    return ago_s, ExchangeFailed("reading live settings", reply, retry_at)


REJECTED_AT = WALL - timedelta(minutes=5)


def file_state(
    path: str = "mmp.yaml", problems: tuple[Problem, ...] = (), *, ago_s: float = 3000.0
) -> FileState:
    """Return a file in force since ``ago_s`` seconds; ``problems`` of a newer one, five minutes old."""
    content = FileInForce(path, "4aff0926" * 8, WALL - timedelta(seconds=ago_s))
    return NewerRejected(path, content, REJECTED_AT, problems) if problems else content


def bad_quantity(path: str = "mmp.yaml", message: str = "qtyLimit: 1e3 is not a plain number") -> Problem:
    """Return a problem of a newer file."""
    return problem(Code.BAD_QUANTITY, path, message, "write 1000", line=11, column=15)


def day_of(*states: tuple[float, str | None]) -> tuple[Segment, ...]:
    """Return spans that end now, from (minutes, state), oldest first."""
    end, spans = WALL, []
    for minutes, state in reversed(states):
        begin = end - timedelta(minutes=minutes)
        spans.append(Segment(state, begin, end))
        end = begin
    return tuple(reversed(spans))


CALM = day_of((1440, "in-sync"))
DAYS: dict[str, tuple[Segment, ...]] = {
    "calm": CALM,
    "eventful": day_of(
        (300, "in-sync"),
        (45, None),
        (200, "in-sync"),
        (0.5, "drifted"),
        (400, "in-sync"),
        (60, "frozen"),
        (300, "in-sync"),
        (20, "uncertain"),
        (100, "in-sync"),
        (14, "pending"),
        (0.5, "in-sync"),
    ),
    "young": day_of((12, "pending"), (170, "in-sync")),
}


def latest_of(
    *accounts: AccountRuntime, days: Sequence[str] = ("calm", "eventful", "young")
) -> LatestState:
    """Return the state of ``accounts``; their families get the timelines of ``days`` in rotation."""
    shared_state = LatestState(version="0.1.0", began_at=WALL - timedelta(hours=26))
    for one in accounts:
        families = list(one.desired.families)
        timelines = {family: DAYS[days[place % len(days)]] for place, family in enumerate(families)}
        name = f"{one.desired.account}/{one.desired.environment.value}"
        shared_state.put(name, AccountSnapshot(one, 30.0, timeline=Timeline(timelines if days else {})))
    return shared_state


def all_of(name: str, families: Sequence[Family] = SIX) -> dict[Family, Shape]:
    """Return ``families``, each in the shape called ``name``."""
    return dict.fromkeys(families, SHAPES[name])


def calm() -> LatestState:
    """Return one account where everything matches the file."""
    return latest_of(
        replace(runtime(all_of("in sync"), then=[idle(1)]), config=file_state()), days=("calm",)
    )


def troubled(*, simulator: bool = False) -> LatestState:
    """Return one account in which much is wrong at once."""
    ledger = Ledger(sent=(CountedRequest(9, NOW - 6), CountedRequest(10, NOW - 2)))
    shapes = dict(
        zip(
            SIX,
            (
                SHAPES[name]
                for name in (
                    "drifted tighter",
                    "drifted looser",
                    "frozen until reset",
                    "uncertain",
                    "in sync",
                    "changed",
                )
            ),
            strict=True,
        )
    )
    shapes[Family("DOT-USD")] = SHAPES["frozen"]
    shapes[Family("LTC-USD")] = SHAPES["changed"]
    wanted = {family: setting(FILE) for family in shapes} | {ETH: setting("5000/0/100")}
    pause = Pause(XRP, "desk is moving", WALL - timedelta(minutes=10), WALL + timedelta(minutes=20))
    paused, rejected = frozenset({XRP}), {Family("LTC-USD"): Rejection(setting(FILE), float("inf"))}
    one = runtime(
        shapes,
        wanted=wanted,
        unmanaged={Family("UNI-USD"): LiveRow(setting(LOOSER))},
        ledger=ledger,
        rules=PlanConstraints(drift=DriftPolicy.HEAL_LOOSENED, paused=paused, rejected=rejected),
        pauses=(pause,),
        simulator=simulator,
        then=[
            *request(ETH, 52, AttemptStatus.APPLIED, attempt=5),
            *request(XAU, 51.2, AttemptStatus.APPLIED, attempt=6),
            *request(Family("LTC-USD"), 40, AttemptStatus.REJECTED, attempt=7, reply=rejection()),
            (39.7, SettingRejected(Family("LTC-USD"), setting(FILE), rejection(), None)),
            *request(
                SOL,
                9,
                AttemptStatus.UNKNOWN,
                attempt=9,
                reply=Reply(ReplyClass.NO_ANSWER, "timeout", "no answer in 10 s"),
            ),
            *request(BTC, 2, AttemptStatus.PENDING, attempt=10),
        ],
    )
    policy = FileInForce("mmp-policy.yaml", "1c0ffee5" * 8, WALL - timedelta(days=3))
    return latest_of(replace(one, config=file_state(problems=(bad_quantity(),)), policy=policy))


def showcase() -> LatestState:
    """Return the account of the pictures: a healed drift, a freeze, a rejected file, a busy minute."""
    names = ("in sync", "drifted looser", "frozen until reset", "in sync", "in sync", "in sync")
    one = runtime(
        {family: SHAPES[name] for family, name in zip(SIX, names, strict=True)},
        wanted={family: setting("5000/0/100" if family == ETH else FILE) for family in SIX},
        ledger=Ledger(sent=(CountedRequest(8, NOW - 6), CountedRequest(9, NOW - 5.8))),
        then=[
            *request(SOL, 48, AttemptStatus.APPLIED, attempt=5),
            *request(XAU, 47.6, AttemptStatus.APPLIED, attempt=6),
            *request(XRP, 31, AttemptStatus.REJECTED, attempt=7, reply=LIMITED),
            *request(XRP, 19, AttemptStatus.APPLIED, attempt=8),
            *request(ADA, 5.8, AttemptStatus.APPLIED, attempt=9),
        ],
    )
    one = replace(one, config=file_state(problems=(bad_quantity(),)))
    return latest_of(one, days=("calm", "eventful", "calm", "calm", "young", "calm"))


def several() -> LatestState:
    """Return three accounts in different protection states, one of them waiting for its settings."""
    main = replace(runtime(all_of("in sync", SIX[:3])), config=file_state("accounts/main.yaml"))
    hedge = runtime(
        {BTC: SHAPES["drifted looser"], ETH: SHAPES["in sync"]}, account="hedge", path="accounts/hedge.yaml"
    )
    arb = runtime(
        {BTC: SHAPES["frozen until reset"]},
        wanted={BTC: setting("5000/0/100")},
        account="arb",
        environment=Environment.DEMO,
        path="accounts/arb.yaml",
    )
    dark = runtime(
        all_of("in sync", SIX[:2]),
        account="spare",
        path="accounts/spare.yaml",
        read_ago_s=400,
        then=[failed(3), failed(15), failed(30)],
    )
    return latest_of(main, hedge, arb, dark)


def large(
    count: int = 200, *, seed: int = 1, differing: float = 0.1, restless: bool = False
) -> LatestState:
    """Return one account of ``count`` families, some of them differing; ``restless``: all day long."""
    chance = random.Random(seed)
    families = [Family(f"COIN{number:03}-USD_UM") for number in range(count)]
    odd = [name for name in SHAPES if name != "in sync"]
    shapes = {
        family: SHAPES[chance.choice(odd) if chance.random() < differing else "in sync"]
        for family in families
    }
    one = replace(runtime(shapes), config=file_state())
    if not restless:
        return latest_of(one, days=("calm", "calm", "young"))
    shared_state = latest_of(one)
    flicker = day_of(*(((15, ("in-sync", "drifted", "frozen", None)[place % 4])) for place in range(96)))
    shared_state.put(
        "main/live", AccountSnapshot(one, 30.0, timeline=Timeline(dict.fromkeys(families, flicker)))
    )
    return shared_state


def hostile() -> LatestState:
    """Return an account whose every text from outside is an attack."""
    one = runtime(
        {BTC: SHAPES["drifted looser"], ETH: SHAPES["frozen"], SOL: SHAPES["changed"]},
        account=HOSTILE,
        path=HOSTILE,
        rules=PlanConstraints(rejected={SOL: Rejection(setting(FILE), float("inf"))}),
        pauses=(Pause(BTC, HOSTILE, WALL, None),),
        then=[
            (2.0, SettingRejected(SOL, setting(FILE), rejection(HOSTILE), NOW + 60)),
            failed(1, message=HOSTILE),
            (0.5, Identified(HOSTILE, None)),
        ],
    )
    one = replace(
        one,
        host=HOSTILE,
        state_locked=StateLockTimedOut(HOSTILE),
        config=file_state(HOSTILE, (bad_quantity(HOSTILE, HOSTILE),)),
        policy=file_state(HOSTILE, (bad_quantity(HOSTILE, HOSTILE),)),
    )
    shared_state = latest_of(one)
    never = NeverValid(HOSTILE, REJECTED_AT, (bad_quantity(HOSTILE, HOSTILE),))
    shared_state.unloaded = UnloadedFiles(missing=(HOSTILE,), rejected=(never,))
    return shared_state


def guarded() -> LatestState:
    """Return an account whose changes the policy refuses."""
    strict = Policy("mmp-policy.yaml", "1" * 64, default={Field.QTY_LIMIT: Bound(maximum=Decimal(50))})
    return latest_of(runtime(all_of("changed", SIX[:2]), rules=PlanConstraints(policy=strict)))


def unguarded() -> LatestState:
    """Return an account that is to be disabled, without a policy that allows it."""
    return latest_of(runtime(all_of("in sync", (BTC,)), wanted={BTC: setting(OFF)}))


def silent() -> LatestState:
    """Return an account whose loop has sent no event for minutes."""
    one = runtime(all_of("in sync", SIX[:2]), read_ago_s=500)
    return latest_of(replace(one, last_step_at=NOW - 490, next_step_by=NOW - 470))


def starting() -> LatestState:
    """Return an account whose loop has just started."""
    return latest_of(
        initial(desired({BTC: setting(FILE)}), host="openapi.okx.com", simulator=False, live=True, now=NOW)
    )


def empty() -> LatestState:
    """Return the state of a program that has not accepted any settings."""
    shared_state = latest_of()
    shared_state.unloaded = UnloadedFiles(missing=("accounts/main.yaml",))
    return shared_state


def refused() -> LatestState:
    """Return an account in sync whose newer file is invalid and whose key is refused."""
    shared_state, wrong = calm(), bad_quantity("accounts/new.yaml")
    (one,) = shared_state.accounts()
    terminal = TerminalError(Reply(ReplyClass.ACCOUNT, "50119", "API key doesn't exist"), writing=False)
    shared_state.put("main/live", replace(one, runtime=replace(one.runtime, terminal_error=terminal)))
    never = NeverValid("accounts/new.yaml", REJECTED_AT, (wrong,))
    shared_state.unloaded = UnloadedFiles(rejected=(never,))
    return shared_state


REPLICAS = (
    Replica("1", "mmp-7c9d5b6f4-x2x8z", 7),
    Replica("2", "mmp-7c9d5b6f4-q4k2n", 7),
    Replica("3", "trading-host-with-a-name-as-long-as-the-system-lets-it-be-" + "x" * 6, 4_194_304),
)
"""The replicas that share the accounts; this process is the first."""


def shared(
    mine: int = 2, theirs: int = 7, free: int = 1, *, failing: str = "", hosts: Sequence[Replica] = REPLICAS
) -> LatestState:
    """Return the state of one of three replicas: accounts run here, by the other replicas, and by none.

    ``failing``: why the state has not been reached for longer than leases last.
    """
    number = mine + theirs + free
    names = [f"desk-{place:03}" for place in range(1, number + 1)]
    kept = [runtime(all_of("in sync", SIX[:2]), account=name) for name in names[:mine]]
    shared_state = latest_of(*kept)
    keys = [lease_name(name, Environment.LIVE, ExchangeKind.OKX) for name in names]
    owners = dict.fromkeys(keys[:mine], hosts[0].id)
    owners |= {key: hosts[1 + place % 2].id for place, key in enumerate(keys[mine : mine + theirs])}
    keeps = frozenset(keys)
    roster = LeaseTable(
        {one.id: one for one in hosts}, dict.fromkeys([one.id for one in hosts], keeps), owners
    )
    good_until = NOW - 60 if failing else NOW + LEASE_TTL_S
    shared_state.replica = ReplicaStatus(hosts[0], keeps, roster, good_until, failing)
    for name, watched in zip(names, shared_state.accounts(), strict=False):
        shared_state.put(f"{name}/live", replace(watched, owner=hosts[0]))
    return shared_state


def hostile_hosts() -> LatestState:
    """Return a state whose replicas have attacks for names, and whose state address contains one."""
    evil = tuple(replace(one, host=f"{HOSTILE}{one.host}") for one in REPLICAS)
    return shared(hosts=evil, failing=HOSTILE)


def never_open() -> LatestState:
    """Return the state of a program whose state store could not be opened so far."""
    shared_state = latest_of()
    shared_state.error = (
        "the state postgresql://mmp@db.internal:5432/mmp cannot be used now: connection failed: connection"
        ' to server at "10.0.12.7", port 5432 failed: Connection refused'
    )
    return shared_state


LOCKED = StateLockTimedOut("locked by pid 7")

LATEST_STATES: dict[str, Callable[[], LatestState]] = {
    "calm": calm,
    "troubled": troubled,
    "simulator": lambda: troubled(simulator=True),
    "showcase": showcase,
    "several": several,
    "one": lambda: latest_of(runtime(all_of("in sync", (BTC,)))),
    "outage": lambda: latest_of(runtime(all_of("drifted looser", SIX[:2]), then=[failed(3), failed(20)])),
    "old read": lambda: latest_of(runtime(all_of("in sync"), read_ago_s=500)),
    "silent": silent,
    "locked": lambda: latest_of(replace(runtime(all_of("changed", SIX[:2])), state_locked=LOCKED)),
    "no live": lambda: latest_of(runtime(all_of("in sync", SIX[:2]), live=False)),
    "guarded": guarded,
    "unguarded": unguarded,
    "starting": starting,
    "empty": empty,
    "refused": refused,
    "hostile": hostile,
    "large": lambda: large(60),
    "shared": shared,
    "shared, hundreds": lambda: shared(1, 240, 3),
    "run by other replicas": lambda: shared(0, 9, 0),
    "cut off": lambda: shared(failing="the server closed the connection unexpectedly"),
    "never open": never_open,
    "hostile hosts": hostile_hosts,
    "shapes": lambda: latest_of(
        runtime({Family(f"S{place}-USD"): shape for place, shape in enumerate(SHAPES.values(), 1)})
    ),
}
"""Every example state of the tests, by name."""
