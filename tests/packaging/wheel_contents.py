"""Says what is wrong with the contents of a wheel: python wheel_contents.py hwnas-*.whl"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

MOST_BYTES = 60e6
FOLDERS = {"hwnas", "cost_models", "search_spaces", "devices"}
REQUIRED = ("hwnas/py.typed", "hwnas/cli/app.py", "cost_models/bitops.py", "search_spaces/sam.py")


def problems(wheel: Path) -> Iterator[str]:
    """Yield one sentence for each thing that is missing or does not belong there."""
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.partition("/")[0] for name in names}
    info = {folder for folder in folders if folder.endswith(".dist-info")}
    if folders - info != FOLDERS:
        yield f"it ships {sorted(folders - info)}; expected {sorted(FOLDERS)}"
    for name in REQUIRED:
        if name not in names:
            yield f"{name} is missing"
    if sum(name.startswith("devices/") and name.endswith(".yaml") for name in names) < 16:
        yield "fewer than 16 device files"
    if not any("/licenses/LICENSE" in name for name in names):
        yield "the licence is missing"
    strays = [n for n in names if "__pycache__" in n or n.endswith((".pyc", ".orig", ".tmp"))]
    if strays:
        yield f"it ships {strays}"
    if wheel.stat().st_size > MOST_BYTES:
        yield f"it has {wheel.stat().st_size / 1e6:.0f} MB, more than {MOST_BYTES / 1e6:.0f}"


if __name__ == "__main__":
    found = list(problems(Path(sys.argv[1])))
    sys.exit("\n".join(found) if found else 0)
