"""The command `lab`."""

from __future__ import annotations

import signal
import sys

from lab.caller import as_root, leave
from lab.threads import at_work


def main() -> None:
    if not {"-h", "--help"} & set(sys.argv):
        as_root()
    from lab.cli import main as command  # noqa: PLC0415  - what sudo starts anew need not be loaded twice

    # `kill` as Ctrl-C: playbooks are ended, and the terminal gets its cursor back.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        command()
    except SystemExit as end:
        if at_work():
            leave(end.code if isinstance(end.code, int) else 1)
        raise


if __name__ == "__main__":
    main()
