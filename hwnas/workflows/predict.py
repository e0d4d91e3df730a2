"""Costs of given designs, without a search."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hwnas.config import make_config
from hwnas.cost import estimate
from hwnas.errors import ArchError
from hwnas.records import RunFolder
from hwnas.space import Arch, Archs, SearchSpace
from hwnas.workflows.resolve import resolve

__all__ = ["predict"]

_COSTS = ("bitops", "system_bitops", "macs", "model_size", "peak_memory")
_COSTS_ON_DEVICE = ("latency", "energy")


def predict(
    space: str | SearchSpace = "sam-vit-t",
    *,
    device: str | None = None,
    costs: Sequence[str] = (),
    archs: Sequence[str | Arch] = (),
    run: Path | None = None,
) -> list[dict[str, object]]:
    """One row a design: arch id, each cost, and its interval where one is known.

    Args:
        space: the space of the designs; a run folder names its own.
        device: for latency and energy.
        costs: cost models; by default all analytic ones, and latency and energy with a device.
        archs: designs as `Arch`, JSON text, or files with one JSON a line.
        run: take the front of this run folder. Without designs, the reference designs of the
            space are priced.

    Raises:
        ArchError: a design does not belong to the space; lists every problem.
        HwnasError: space, device or a cost model cannot be loaded.
    """
    if run is not None:
        with RunFolder.open(run) as folder:
            space, device = folder.config["space"], device or folder.config["device"]
    wanted = list(costs) or [*_COSTS, *(_COSTS_ON_DEVICE if device else ())]
    content: dict[str, object] = {
        "space": space.name if isinstance(space, SearchSpace) else space,
        "device": device,
        "objectives": wanted,
    }
    given = space if isinstance(space, SearchSpace) else None
    live = resolve(make_config("predict", content), space=given)
    labels, designs = _designs(live.space, archs, run)
    rows: list[dict[str, object]] = [{"arch": arch.id} for arch in designs]
    for row, label in zip(rows, labels, strict=True):
        if label:
            row["design"] = label
    for column in live.problem.objectives:
        batch = estimate(column.model, designs)
        heading = f"{column.name} {column.unit}"
        for i, row in enumerate(rows):
            row[heading] = float(batch.value[i])
            if batch.lo is not None and batch.hi is not None and batch.lo[i] < batch.hi[i]:
                row[f"{heading} interval"] = f"{batch.lo[i]:.3g} to {batch.hi[i]:.3g}"
    return rows


def _designs(
    space: SearchSpace, given: Sequence[str | Arch], run: Path | None
) -> tuple[list[str], Archs]:
    if run is not None:
        with RunFolder.open(run) as folder:
            found = _front(space, folder)
        return [""] * len(found), Archs.of(space, found)
    if given:
        found = [arch for item in given for arch in _read(space, item)]
        return [""] * len(found), Archs.of(space, found)
    labels, references = zip(*space.reference_designs(), strict=True)
    return list(labels), Archs.of(space, list(references))


def _front(space: SearchSpace, folder: RunFolder) -> list[Arch]:
    designs = json.loads(folder.read_text("front.json"))["designs"]
    return [space.arch(design["genes"]) for design in designs]


def _read(space: SearchSpace, item: str | Arch) -> list[Arch]:
    if isinstance(item, Arch):
        return [item]
    if item.lstrip().startswith("{"):
        return [space.arch_from_json(item)]
    try:
        lines = Path(item).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ArchError(
            f"--arch {item}: neither JSON of a design nor a readable file ({error.strerror})"
        ) from error
    return [space.arch_from_json(line) for line in lines if line.strip()]
