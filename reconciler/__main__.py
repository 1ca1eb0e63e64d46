"""The ``mmp`` command, also as ``python -m reconciler``: takes signals first, then imports the rest."""

import sys

from reconciler.process_signals import SIGNALS


def main() -> None:
    """Run the command line and exit with its status."""
    SIGNALS.install(sys.argv[1] if len(sys.argv) > 1 else "")
    from reconciler.cli.main import main as command_line  # late: its import takes ten times as long

    command_line()


if __name__ == "__main__":
    main()
