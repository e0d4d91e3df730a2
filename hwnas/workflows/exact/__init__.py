"""Exact optima around a search: what it begins with, and what it is held against."""

from hwnas.workflows.exact.start import (
    begin_exactly,
    compare_with_exact,
    exact_archs,
    prepare_exact,
)

__all__ = ["begin_exactly", "compare_with_exact", "exact_archs", "prepare_exact"]
