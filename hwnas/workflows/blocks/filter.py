"""Leave those blocks of a library that are worth having on a device, as a smaller space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.blocks.filtering import Candidate, Filtered, counts, filter_blocks
from hwnas.blocks.library import Library, read_library
from hwnas.blocks.options import BITS, slot_gene, teacher_option
from hwnas.cost import Breakdown, CostModel
from hwnas.cost import build as build_cost
from hwnas.device import DeviceProfile, find
from hwnas.errors import CostError
from hwnas.records.files import replace_text
from hwnas.space import Arch, SearchSpace, load_space
from hwnas.space.derived import derived_yaml
from hwnas.workflows.context import make_context
from hwnas.workload.sam_geometry import GEOMETRIES

__all__ = ["DeviceFilter", "filter_library"]


@dataclass(frozen=True)
class DeviceFilter:
    """What a filter leaves of a library on one device.

    Attributes:
        device: Id and mode of the device.
        fidelity: How times came about: `estimated` or `predicted`.
        native: Pairs of bits of the library that the device runs as they are, by name.
        slots: What is left of each slot and what was dropped.
        space: Text of a space with what is left, which `hwnas search --space FILE` reads.
    """

    device: str
    fidelity: str
    native: tuple[str, ...]
    slots: Mapping[int, Filtered]
    space: str

    @property
    def rows(self) -> list[dict[str, object]]:
        """Blocks kept and dropped, with the reason, by their bits."""
        dropped = counts(self.slots)
        kept: dict[str, int] = {}
        for found in self.slots.values():
            for candidate in found.kept:
                bits = candidate.block.rpartition("-")[2]
                kept[bits] = kept.get(bits, 0) + 1
        return [
            {
                "device": self.device, "bits": bits,
                "native": "yes" if bits in self.native else "no", "kept": kept.get(bits, 0),
                "slow": dropped.get((bits, "slow"), 0), "beaten": dropped.get((bits, "beaten"), 0),
            }
            for bits in BITS
        ]  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """JSON values, block by block."""
        return {
            "device": self.device,
            "fidelity": self.fidelity,
            "native": list(self.native),
            "slots": [
                {
                    "slot": slot,
                    "kept": [{"block": c.block, "nsr": c.loss, "ms": c.ms} for c in found.kept],
                    "dropped": [
                        {
                            "block": d.block, "nsr": d.loss, "ms": d.ms, "reason": d.reason,
                            "by": d.by, "why": d.sentence,
                        }
                        for d in found.dropped
                    ],
                }
                for slot, found in self.slots.items()
            ],
        }  # fmt: skip


def filter_library(
    library: str | Path | Library,
    *,
    device: str | DeviceProfile,
    space: str | SearchSpace | None = None,
    slowest: float = 1.0,
    tolerance: float = 0.01,
    out: Path | None = None,
) -> DeviceFilter:
    """Filter every slot of a library by loss and by time on a device.

    Args:
        library: folder or packed file.
        device: id, alias or file of a profile, or a profile.
        space: the space that the library was built for; read from the library by default.
        slowest: how many times the teacher's time in a slot a block may take; of the whole network
            where the device's predictor cannot tell the time of a part.
        tolerance: share of the loss by which a slower block must be better.
        out: YAML file for the smaller space.

    Raises:
        HwnasError: the library, the device or an argument cannot be used.
    """
    held = library if isinstance(library, Library) else read_library(library)
    spec = space or str(held.settings["space"])
    found = load_space(spec)
    profile = find(device) if isinstance(device, str) else device
    model = build_cost("latency", make_context(found, device=profile))
    teacher = teacher_option(GEOMETRIES[held.geometry]).name
    slots = {
        slot: filter_blocks(
            _candidates(held, found, model, slot, teacher), teacher, slowest=slowest,
            tolerance=tolerance,
        )
        for slot in range(held.slots)
    }  # fmt: skip
    keep = {slot_gene(slot): [c.block for c in part.kept] for slot, part in slots.items()}
    name = f"blocks for {profile.key}"
    base = spec if isinstance(spec, str) else found.name
    text = derived_yaml(base, keep, name=name)
    if out is not None:
        replace_text(out, text)
    return DeviceFilter(
        profile.key, str(getattr(model, "fidelity", "estimated")), _native(profile), slots, text
    )


def _candidates(
    library: Library, space: SearchSpace, model: CostModel, slot: int, teacher: str
) -> list[Candidate]:
    """Losses and times of the blocks of a slot, the teacher's own in the others."""
    records = library.of_slot(slot)
    options = set(space.gene(slot_gene(slot)).options)
    records = [record for record in records if record.block in options]
    own = {slot_gene(other): teacher for other in range(library.slots)}
    archs = [space.arch({**own, slot_gene(slot): record.block}) for record in records]
    if not any(record.block == teacher for record in records):
        raise CostError(
            f"{library.path}: the teacher's own block {teacher} is not among those of slot "
            f"{slot}; build it: hwnas blocks build --resume --blocks {teacher}"
        )
    times = _slot_times(model, archs, slot)
    return [
        Candidate(record.block, record.nsr, ms) for record, ms in zip(records, times, strict=True)
    ]


def _slot_times(model: CostModel, archs: Sequence[Arch], slot: int) -> list[float]:
    """Milliseconds of a slot where the model tells parts apart, else of the whole network."""
    if not isinstance(model, Breakdown):
        whole: list[float] = model.evaluate(archs).tolist()
        return whole
    prefix = f"slots.{slot}."
    parts = [model.breakdown(arch) for arch in archs]
    return [sum(ms for name, ms in of.items() if name.startswith(prefix)) for of in parts]


def _native(profile: DeviceProfile) -> tuple[str, ...]:
    return tuple(name for name, pair in BITS.items() if profile.execution(*pair).native)
