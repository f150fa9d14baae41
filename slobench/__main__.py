"""`python -m slobench` and the `slobench` command."""

from __future__ import annotations

from slobench.cli.main import main

if __name__ == "__main__":
    main()
