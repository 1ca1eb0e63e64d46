"""The doctor's check results as text for people and pipelines: one line each, with what to do."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.core.doctor import CheckResult, CheckStatus
from reconciler.core.problems import escape_unprintable
from reconciler.documents.doctor import DoctorReport
from reconciler.render.color import Paint, Tone, plain
from reconciler.render.values import count


def doctor_text(checkup: DoctorReport, *, paint: Paint = plain) -> str:
    """Return one line per check result, the hint under it, and a summary; ends in a newline."""
    banner = paint("SIMULATOR ", Tone.WARN) if checkup.simulator else ""
    whose = f"{checkup.account} ({checkup.environment})" if checkup.account else "unknown account"
    host, path = escape_unprintable(checkup.host), escape_unprintable(checkup.path)
    place = f"{paint(whose, Tone.STRONG)} at {host} · {path}"
    lines = [f"{banner}{place}", ""]
    for finding in checkup.findings:
        symbol, tone = _LOOK[finding.mark]
        text = escape_unprintable(finding.message)
        lines.append(f"  {paint(f'{symbol} {finding.check:<{_WIDTH}}', tone)}  {text}")
        if finding.remedy:
            lines.append(f"  {'':<{_WIDTH + 2}}  → {escape_unprintable(finding.remedy)}")
    return "\n".join([*lines, "", _summary(checkup.findings)]) + "\n"


_LOOK = {
    CheckStatus.OK: ("✓", Tone.GOOD),
    CheckStatus.ADVICE: ("!", Tone.WARN),
    CheckStatus.FAILED: ("✗", Tone.BAD),
    CheckStatus.SKIPPED: ("-", Tone.QUIET),
}
_WIDTH = len("permissions")


def _summary(findings: Sequence[CheckResult]) -> str:
    number = {mark: sum(finding.mark is mark for finding in findings) for mark in CheckStatus}
    if not number[CheckStatus.FAILED]:
        text = (
            f"; {count(number[CheckStatus.ADVICE], 'thing')} worth knowing"
            if number[CheckStatus.ADVICE]
            else ""
        )
        return f"Nothing stands in the way{text}."
    more = f", {number[CheckStatus.SKIPPED]} not checked" if number[CheckStatus.SKIPPED] else ""
    return f"{count(number[CheckStatus.FAILED], 'problem')} to fix{more}."
