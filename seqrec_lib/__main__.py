"""``python -m seqrec_lib`` is the `seqrec` command."""

from __future__ import annotations

from seqrec_lib.cli import main

if __name__ == "__main__":
    main()
