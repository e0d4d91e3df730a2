"""Importing pymoo without its hint on standard output."""

from __future__ import annotations

__all__ = ["quiet"]


def quiet() -> None:
    """Switch off the hint that pymoo prints when its compiled modules are missing.

    It is printed when pymoo first looks for them; the sorting that we use is compiled anyway
    (moocore).
    """
    from pymoo.config import Config

    Config.warnings["not_compiled"] = False
