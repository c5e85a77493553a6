"""The command `lab`."""

from __future__ import annotations

import sys

from lab.caller import as_root


def main() -> None:
    if not {"-h", "--help"} & set(sys.argv):
        as_root()
    from lab.cli import main as command  # noqa: PLC0415  - what sudo starts anew need not be loaded twice

    command()


if __name__ == "__main__":
    main()
