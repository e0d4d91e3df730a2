"""Device profiles: what a device can do, and how far each figure can be trusted.

Importing this package reads no file and imports neither pydantic nor numpy.
"""

from __future__ import annotations

from hwnas.device.catalog import DeviceEntry, listing
from hwnas.device.checks import Finding, check
from hwnas.device.execution import Execution
from hwnas.device.host import host_profile
from hwnas.device.lookup import find, from_dict, schema
from hwnas.device.profile import DeviceProfile
from hwnas.device.table import show

__all__ = [
    "DeviceEntry",
    "DeviceProfile",
    "Execution",
    "Finding",
    "check",
    "find",
    "from_dict",
    "host_profile",
    "listing",
    "schema",
    "show",
]
