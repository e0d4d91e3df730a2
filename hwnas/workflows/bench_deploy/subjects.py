"""What is compared: the full network in float, the same at 8 bits, and the chosen designs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hwnas.cost import CostContext
from hwnas.device import DeviceProfile, find
from hwnas.device.catalog import HOST
from hwnas.errors import ArchError, ConfigError
from hwnas.export.runtimes import Runtime
from hwnas.space import Arch, SearchSpace
from hwnas.space.axes import SAM_AXES, arch_with, axis_settings
from hwnas.supernet.random_supernet import random_supernet
from hwnas.supernet.sam_supernet import SamSupernet, load_base
from hwnas.supernet.semantic import classes_of
from hwnas.supernet.subnet import Subnet
from hwnas.workflows.arch_sources import archs_from
from hwnas.workflows.context import make_context
from hwnas.workflows.export_source import exportable_supernet, open_source, space_of
from hwnas.workload.sam_geometry import GEOMETRIES
from hwnas.workload.sam_plan import EncoderPlan

__all__ = ["DESIGN_RUNTIMES", "DesignChoice", "Subject", "choose", "subjects_of"]

_FULL: tuple[Runtime, ...] = ("torch", "onnxruntime", "openvino")
DESIGN_RUNTIMES: tuple[Runtime, ...] = ("onnxruntime", "openvino", "tvm")
"""What multiplies integers; PyTorch runs full precision alone."""
_INT8 = 8


@dataclass(frozen=True)
class DesignChoice:
    """Which designs of whose supernet.

    Attributes:
        source: A run folder; or with `space` whatever `archs_from` takes.
        picks: For a run folder what `hwnas export --pick` takes, the knee without any; else the
            beginnings of ids, all designs without any.
        device: This machine's profile; that of the run folder by default, else `host`.
        random_weights: Random weights in the space's shapes, with rough scales: times and bytes
            do not depend on the values, and quality is not scored.
    """

    source: str
    picks: tuple[str, ...] = ()
    space: str | SearchSpace | None = None
    supernet: str | None = None
    device: str | DeviceProfile | None = None
    random_weights: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.random_weights and self.supernet is not None:
            raise ConfigError("--random-weights: a supernet has its own; leave --supernet out")


@dataclass(frozen=True)
class Subject:
    """A network to open in some runtimes; `arch` is None for full precision."""

    name: str
    subnet: Subnet
    sam: Any
    runtimes: tuple[Runtime, ...]
    arch: Arch | None = None


def choose(choice: DesignChoice) -> tuple[CostContext, tuple[Arch, ...]]:
    """The designs, and the context of their costs.

    Raises:
        ConfigError, ArchError, RunError, InfeasibleError: nothing, or no single design, fits.
    """
    device = find(choice.device) if isinstance(choice.device, str) else choice.device
    space = space_of(choice.source, choice.space)
    if space is None:
        opened = [
            open_source(choice.source, choice=pick, supernet=choice.supernet, device=device)
            for pick in choice.picks or ("knee",)
        ]
        return opened[0].context, tuple(dict.fromkeys(one.arch for one in opened))
    archs = archs_from(space, choice.source, seed=choice.seed)
    found = [arch for arch in archs if not choice.picks or arch.id.startswith(choice.picks)]
    if not found:
        raise ArchError(
            f"{choice.source}: no design begins with {', '.join(choice.picks)}; expected "
            f"beginnings of {', '.join(archs.ids[:6])}"
        )
    return make_context(space, device=device or find(HOST), supernet=choice.supernet), tuple(found)


def subjects_of(
    choice: DesignChoice, context: CostContext, archs: Sequence[Arch], resolution: int | None
) -> list[Subject]:
    """What is compared: full precision first, then 8 bits, then the designs.

    `resolution` is that of the first two, by default the largest of the space.
    """
    space = context.space
    axes = {axis.name: axis for axis in SAM_AXES}
    settings = axis_settings(space, axes["bits"], _INT8)
    if resolution is not None:
        settings |= axis_settings(space, axes["resolution"], resolution)
    whole = arch_with(space, settings)
    base, supernet = _models(choice, context)
    side = supernet.resolution(whole)
    if resolution not in (None, side):
        sides = ", ".join(map(str, space.gene("resolution").options))
        raise ConfigError(f"--resolution {resolution}: expected one of {space.name}'s, {sides}")
    full = EncoderPlan.uniform(base.geometry, resolution=side)
    designs = [("W8A8, largest", whole), *((a.id, a) for a in archs if a != whole)]
    return [
        Subject("full precision", base.subnet(full), base.sam, _FULL),
        *(Subject(name, supernet.subnet(arch), supernet.sam, DESIGN_RUNTIMES, arch)
          for name, arch in designs),
    ]  # fmt: skip


def _models(choice: DesignChoice, context: CostContext) -> tuple[SamSupernet, SamSupernet]:
    """The full-precision base, and the supernet."""
    if choice.random_weights:
        return _random_models(choice, context)
    supernet = exportable_supernet(context, by="hwnas bench deploy")
    if classes_of(supernet.sam) is not None:
        raise ConfigError("a model with a semantic head cannot be exported; give one for prompts")
    return SamSupernet(load_base(context.supernet_source or context.space.name)), supernet


def _random_models(choice: DesignChoice, context: CostContext) -> tuple[SamSupernet, SamSupernet]:
    if context.space.name not in GEOMETRIES:
        raise ConfigError(
            f"--random-weights: {context.space.name} is not one of {', '.join(GEOMETRIES)}, whose "
            "shapes are known"
        )
    supernet = random_supernet(GEOMETRIES[context.space.name], seed=choice.seed)
    return SamSupernet(supernet.sam), supernet
