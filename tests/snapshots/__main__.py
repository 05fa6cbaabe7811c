"""Compare the snapshots with the tools, or rewrite them (``--write``)."""

from __future__ import annotations

import sys

from tests.snapshots import differences, write

if __name__ == "__main__":
    writing = "--write" in sys.argv[1:]
    names = write() if writing else differences()
    sys.stdout.write("".join(f"{name}\n" for name in names) or "every snapshot is up to date\n")
    sys.exit(0 if writing or not names else 1)
