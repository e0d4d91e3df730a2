"""From measured times to a validated latency predictor: of a store, or of a table of times."""

from hwnas.workflows.calibrate.from_csv import FromCsv, Refused, calibrate_from_csv
from hwnas.workflows.calibrate.store import CalibratedDevice, HoldOut, calibrate

__all__ = [
    "CalibratedDevice",
    "FromCsv",
    "HoldOut",
    "Refused",
    "calibrate",
    "calibrate_from_csv",
]
