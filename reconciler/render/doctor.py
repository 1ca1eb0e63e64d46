"""The doctor's check results as text for people and pipelines: one line each, with what to do."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.core.doctor import CheckResult, CheckStatus
from reconciler.core.problems import escape_unprintable
from reconciler.documents.doctor import DoctorReport
from reconciler.render.color import Paint, Tone, plain
from reconciler.render.values import count


def doctor_text(report: DoctorReport, *, paint: Paint = plain) -> str:
    """Return one line per check result, the hint under it, and a summary; ends in a newline."""
    banner = paint("SIMULATOR ", Tone.WARN) if report.simulator else ""
    whose = f"{report.account} ({report.environment})" if report.account else "unknown account"
    host, path = escape_unprintable(report.host), escape_unprintable(report.path)
    place = f"{paint(whose, Tone.STRONG)} at {host} · {path}"
    lines = [f"{banner}{place}", ""]
    for result in report.findings:
        symbol, tone = _LOOK[result.mark]
        text = escape_unprintable(result.message)
        lines.append(f"  {paint(f'{symbol} {result.check:<{_WIDTH}}', tone)}  {text}")
        if result.remedy:
            lines.append(f"  {'':<{_WIDTH + 2}}  → {escape_unprintable(result.remedy)}")
    return "\n".join([*lines, "", _summary(report.findings)]) + "\n"


_LOOK = {
    CheckStatus.OK: ("✓", Tone.GOOD),
    CheckStatus.ADVICE: ("!", Tone.WARN),
    CheckStatus.FAILED: ("✗", Tone.BAD),
    CheckStatus.SKIPPED: ("-", Tone.QUIET),
}
_WIDTH = len("permissions")


def _summary(findings: Sequence[CheckResult]) -> str:
    number = {mark: sum(result.mark is mark for result in findings) for mark in CheckStatus}
    if not number[CheckStatus.FAILED]:
        text = (
            f"; {count(number[CheckStatus.ADVICE], 'recommendation')}" if number[CheckStatus.ADVICE] else ""
        )
        return f"No problem found{text}."
    more = f", {number[CheckStatus.SKIPPED]} not checked" if number[CheckStatus.SKIPPED] else ""
    return f"{count(number[CheckStatus.FAILED], 'problem')} to fix{more}."
