"""Findings of the doctor as people and pipelines read them: a line each, with what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.core.doctor import Finding, Mark, exit_status
from reconciler.core.problems import printable
from reconciler.documents.plan import Document
from reconciler.render.color import Paint, Tone, plain
from reconciler.render.values import count


@dataclass(frozen=True, slots=True)
class Checkup:
    """One file's findings. ``account`` and ``environment`` are None when the file does not hold."""

    path: str
    account: str | None
    environment: str | None
    host: str
    simulator: bool
    findings: tuple[Finding, ...]


def doctor_document(checkup: Checkup) -> Document:
    """Return the ``mmp/doctor/1`` document."""
    return {
        "format": "mmp/doctor/1",
        "path": checkup.path,
        "account": checkup.account,
        "environment": checkup.environment,
        "host": checkup.host,
        "simulator": checkup.simulator,
        "exit_status": int(exit_status(checkup.findings)),
        "findings": [
            {
                "check": finding.check,
                "mark": finding.mark.value,
                "message": finding.told,
                "hint": finding.remedy or None,
            }
            for finding in checkup.findings
        ],
    }


def doctor_text(checkup: Checkup, *, paint: Paint = plain) -> str:
    """Return one line per finding, what to do under it, and a summary; ends in a newline."""
    banner = paint("SIMULATOR ", Tone.WARN) if checkup.simulator else ""
    whose = f"{checkup.account} ({checkup.environment})" if checkup.account else "unknown account"
    place = f"{paint(whose, Tone.STRONG)} at {printable(checkup.host)} · {printable(checkup.path)}"
    lines = [f"{banner}{place}", ""]
    for finding in checkup.findings:
        symbol, tone = _LOOK[finding.mark]
        told = printable(finding.told)
        lines.append(f"  {paint(f'{symbol} {finding.check:<{_WIDTH}}', tone)}  {told}")
        if finding.remedy:
            lines.append(f"  {'':<{_WIDTH + 2}}  → {printable(finding.remedy)}")
    return "\n".join([*lines, "", _summary(checkup.findings)]) + "\n"


_LOOK = {
    Mark.OK: ("✓", Tone.GOOD),
    Mark.ADVICE: ("!", Tone.WARN),
    Mark.FAILED: ("✗", Tone.BAD),
    Mark.SKIPPED: ("-", Tone.QUIET),
}
_WIDTH = len("permissions")


def _summary(findings: Sequence[Finding]) -> str:
    number = {mark: sum(finding.mark is mark for finding in findings) for mark in Mark}
    if not number[Mark.FAILED]:
        told = f"; {count(number[Mark.ADVICE], 'thing')} worth knowing" if number[Mark.ADVICE] else ""
        return f"Nothing stands in the way{told}."
    more = f", {number[Mark.SKIPPED]} not checked" if number[Mark.SKIPPED] else ""
    return f"{count(number[Mark.FAILED], 'problem')} to be put right{more}."
