"""The steps of the tour as data: what each one does, and the results that it must have."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.errors import Exit

CONFIG = """\
version: 1
account: main
environment: live
defaults:
  timeInterval: 5s
  frozenInterval: 2s
families:
  BTC-USD: {qtyLimit: 100}
  BTC-USD_UM: {qtyLimit: 150}
  ETH-USD: {timeInterval: 1s, frozenInterval: until-reset, qtyLimit: 500}
  ETH-USD_UM: {qtyLimit: 800}
  SOL-USD_UM: {timeInterval: 2s, qtyLimit: 50}
"""

LIVE_BEFORE = (
    "BTC-USD=5000/2000/100",
    "ETH-USD=1000/0/900",
    "BTC-USD_UM",
    "ETH-USD_UM",
    "SOL-USD_UM",
    "XAU-USD_UM=5000/2000/10",
)
"""BTC-USD is already as desired, ETH-USD is not, XAU-USD_UM is unmanaged."""


@dataclass(frozen=True, slots=True)
class TourStep:
    """One step: its text, its preparation, its command, and the expected results.

    ``control`` are (endpoint, payload) pairs for the simulator; ``edit`` replaces text in the file.
    ``output`` must be in the output; ``requests`` is how many Set MMP requests the step must cause.
    """

    title: str
    command: tuple[str, ...]
    control: tuple[tuple[str, dict[str, str]], ...] = ()
    edit: tuple[str, str] | None = None
    status: Exit = Exit.DONE
    output: tuple[str, ...] = ()
    requests: int = 0
    seconds: float | None = None


STEPS = (
    TourStep("The file is valid: checked offline, without keys", ("validate",), output=("no problems",)),
    TourStep(
        "What would happen, and when (nothing is sent)",
        ("plan",),
        output=("+ enable", "▲ tighten    ETH-USD", "= adopt", "unmanaged  XAU-USD_UM", "Plan: 4 to set"),
    ),
    TourStep(
        "Apply at the real pace: two requests, then the next two 10 s later",
        ("apply", "--yes", "--assume-idle"),
        output=("4 applied, 1 adopted",),
        requests=4,
    ),
    TourStep("A second plan: no changes", ("plan", "--detailed-exitcode"), output=("No changes",)),
    TourStep(
        "Drift: another program loosened BTC-USD, and the plan shows it",
        ("plan", "--detailed-exitcode"),
        control=(
            (
                "settings",
                {"family": "BTC-USD", "timeInterval": "5000", "frozenInterval": "2000", "qtyLimit": "9999"},
            ),
        ),
        status=Exit.CHANGES,
        output=("▲ tighten    BTC-USD", "qtyLimit 9999 → 100", "drifted"),
    ),
    TourStep(
        "mmp run restores it automatically (SIGTERM stops it)",
        ("run", "--interval", "2s"),
        output=("request applied", "stopped"),
        requests=1,
        seconds=30.0,
    ),
    TourStep(
        "A frozen family is not written until the freeze ends, even though the file changed",
        ("apply", "--yes"),
        control=(("freeze", {"family": "ETH-USD"}),),
        edit=("qtyLimit: 500", "qtyLimit: 450"),
        status=Exit.HELD,
        output=("! held", "frozen by the exchange"),
    ),
    TourStep(
        "The freeze is over: now it is applied",
        ("apply", "--yes"),
        control=(("unfreeze", {"family": "ETH-USD"}),),
        output=("✓ applied", "ETH-USD"),
        requests=1,
    ),
    TourStep("What is on record", ("status",), output=("As desired", "Pacing:")),
    TourStep("Every attempt and its result", ("history",), output=("6 attempts",)),
)
