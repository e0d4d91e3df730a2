"""Reports of a run: a page, a picture and rows for the terminal."""

from hwnas.report.data import (
    DeviceFigure,
    HypervolumeTrace,
    ReportData,
    ReportedCost,
    Rescoring,
)
from hwnas.report.design_text import design_summary
from hwnas.report.front_png import write_png
from hwnas.report.html import write_html
from hwnas.report.table import front_rows

__all__ = [
    "DeviceFigure",
    "HypervolumeTrace",
    "ReportData",
    "ReportedCost",
    "Rescoring",
    "design_summary",
    "front_rows",
    "write_html",
    "write_png",
]
