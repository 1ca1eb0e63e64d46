"""How a bug of this program is reported: one failure with its own code, in every command."""

from __future__ import annotations

import os

from reconciler.errors import MmpError


def internal_error(bug: Exception) -> MmpError:
    """Return the failure that a broken assumption is; the traceback is shown only on request."""
    if os.environ.get("MMP_TRACEBACK"):
        import traceback

        traceback.print_exception(bug)
    return MmpError(
        "internal-error",
        f"this is a bug in mmp: {type(bug).__name__}",
        "please report it; run again with MMP_TRACEBACK=1 for the place in the code",
    )
