"""The doctor's report on one file, and its document ``mmp/doctor/1``."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.core.doctor import CheckResult, doctor_exit_status
from reconciler.documents.plan import Document


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """The check results of one file. ``account`` and ``environment`` are None if the file is invalid."""

    path: str
    account: str | None
    environment: str | None
    host: str
    simulator: bool
    findings: tuple[CheckResult, ...]


def doctor_document(checkup: DoctorReport) -> Document:
    """Return the ``mmp/doctor/1`` document."""
    return {
        "format": "mmp/doctor/1",
        "path": checkup.path,
        "account": checkup.account,
        "environment": checkup.environment,
        "host": checkup.host,
        "simulator": checkup.simulator,
        "exit_status": int(doctor_exit_status(checkup.findings)),
        "results": [
            {
                "check": finding.check,
                "status": finding.mark.value,
                "message": finding.message,
                "hint": finding.remedy or None,
            }
            for finding in checkup.findings
        ],
    }
