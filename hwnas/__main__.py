"""`python -m hwnas`: the command line of this interpreter's own package."""

from __future__ import annotations

from hwnas.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
