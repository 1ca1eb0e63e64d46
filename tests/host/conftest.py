"""Tests of what only the superuser of a machine can bring about: mounts, and files of several users."""

from __future__ import annotations

from tests.support.missing import tried

collect_ignore_glob = [] if tried("root") else ["test_*.py"]
if not tried("mount namespaces"):
    collect_ignore_glob += [
        "test_mounts.py",
        "test_full_disk.py",
        "test_log_disk.py",
        "test_new_files.py",
        "test_process_one.py",
    ]
