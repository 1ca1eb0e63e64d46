"""Seeds of past failures, by the name of what went wrong: each is played by every ``make test``."""

from __future__ import annotations

REGRESSIONS: dict[str, int] = {}
