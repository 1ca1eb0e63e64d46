"""Tests of the PostgreSQL engine alone; collected where there is a PostgreSQL, or must be one."""

from __future__ import annotations

from tests.support.missing import tried

collect_ignore_glob = [] if tried("PostgreSQL") else ["test_*.py"]
if not tried("PgBouncer"):
    collect_ignore_glob.append("test_pgbouncer.py")
