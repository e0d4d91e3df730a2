"""The base of a fine-tuning, and the student that is made of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hwnas.adapters import AdaptedLinear, MatrixSlice, WeightAdapter
from hwnas.adapters.attaching import matching_linears
from hwnas.adapters.contract import ROLES
from hwnas.adapters.gradients import mean_gradients
from hwnas.adapters.plugin import construct, resolve_kind
from hwnas.config.finetuning import SIDE_NETWORKS, FinetuneConfig
from hwnas.data.labeled import LabeledImage
from hwnas.errors import ConfigError
from hwnas.quant.bits import require_bits
from hwnas.supernet.checkpoint import load_sam
from hwnas.supernet.sam_model import encode
from hwnas.supernet.sam_supernet import SamSupernet, build
from hwnas.supernet.side.student import SideStudent, side_student
from hwnas.supernet.supernet_file import hash_weights
from hwnas.supernet.training.finetuning.attached_student import AttachedStudent, targets_of
from hwnas.supernet.training.finetuning.objective import Objective, Teacher
from hwnas.supernet.training.finetuning.student import require_free
from hwnas.supernet.training.finetuning.subnet_student import SubnetStudent, subnet_layers
from hwnas.supernet.training.stage import Share
from hwnas.workload.sam_plan import EncoderPlan

__all__ = [
    "Base",
    "fresh_student",
    "gradients_for",
    "layers_of",
    "open_base",
    "teacher_of",
]

Genes = Mapping[str, Any]
_GRADIENT_STREAM = 9_001  # of random numbers, beside those of the steps


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """What a recipe begins with: a plain model, or one subnet (`genes`) of a supernet."""

    sam: Any
    hash: str
    resolution: int
    supernet: SamSupernet | None = None
    plan: EncoderPlan | None = None
    genes: Genes | None = None

    def to(self, device: torch.device) -> None:
        """Move it to a device."""
        (self.sam if self.supernet is None else self.supernet).to(device)


def open_base(config: FinetuneConfig, genes: Callable[[str], Genes]) -> Base:
    """Load the base of a recipe; `genes` gives those of its subnet, of the space of that name.

    Raises:
        CheckpointError: it cannot be loaded.
        ConfigError: the resolution is none that the model takes.
    """
    if config.arch is None:
        sam = load_sam(config.base)
        patch, side = sam.geometry.patch, config.resolution or sam.geometry.image_size
        if side % patch:
            raise ConfigError(
                f"resolution {side}: expected a multiple of the patch, {patch} pixels"
            )
        return Base(sam, hash_weights(sam.state_dict()), side)
    net = build(config.base)
    found = genes(net.geometry.name)
    plan = net.plan(found)
    return Base(net.sam, hash_weights(net.state_dict()), plan.resolution, net, plan, found)


def fresh_student(
    base: Base, config: FinetuneConfig, *, seed: int,
    gradients: Mapping[str, torch.Tensor] | None = None, kept: Path | None = None,
) -> AttachedStudent | SubnetStudent | SideStudent:  # fmt: skip
    """The student of a recipe without quantizers; changes the base in place.

    Its adapters, or the side network, are fresh, or those `kept` in a folder.
    """
    own = config.adapter
    if own.kind in SIDE_NETWORKS:
        return side_student(
            base.sam if base.supernet is None else base.supernet, own.kind, own.options,
            seed=seed, plan=base.plan, train_decoder=config.train_decoder, kept=kept,
        )  # fmt: skip
    if base.supernet is not None and base.plan is not None:
        return SubnetStudent(
            base.supernet, base.plan, config, seed=seed, gradients=gradients, kept=kept
        )
    return AttachedStudent(base.sam, config, seed=seed, gradients=gradients, kept=kept)


def layers_of(student: AttachedStudent | SubnetStudent | SideStudent) -> dict[str, AdaptedLinear]:
    """The layers whose rows may be frozen; none but of a plain model."""
    return student.layers if isinstance(student, AttachedStudent) else {}


def gradients_for(
    base: Base, config: FinetuneConfig, images: Sequence[LabeledImage], *, seed: int,
    told: Callable[[int, int], None],
) -> dict[str, torch.Tensor] | None:  # fmt: skip
    """The mean size of each weight's gradient on training batches, if the adapter wants it.

    `told` hears how many batches are done, of how many.

    Also finds out, before anything is written, that an adapter or a bit-width does not exist.
    """
    if config.quantizer is not None:
        require_bits(config.quantizer.w_bits)
        require_bits(config.quantizer.a_bits)
    if not config.adapts or not _sample(base, config).wants_gradient:
        return None
    targets, names = _targets(base, config)
    objective = Objective(_Bare(base), config, base.resolution)

    def losses() -> Iterator[torch.Tensor]:
        for number in range(config.adapter.gradient_batches):
            rng = np.random.default_rng([seed, _GRADIENT_STREAM, number])
            yield objective.losses(objective.batch(images, rng, Share()))["loss"]
            told(number + 1, config.adapter.gradient_batches)

    base.sam.requires_grad_(False)
    found = mean_gradients(base.sam, losses(), targets=targets)
    return {names.get(name, name): value for name, value in found.items()}


def teacher_of(config: FinetuneConfig, base: Base, device: torch.device) -> Teacher | None:
    """The teacher of a recipe: the base in floating point, or a fine-tuning of before."""
    if not (config.distil.mask or config.distil.embedding):
        return None
    if config.distil.teacher is not None:
        from hwnas.supernet.training.finetuning.opening import open_finetuned

        opened = open_finetuned(config.distil.teacher)
        opened.student.to(device)
        return Teacher(opened.sam, opened.embed)
    if base.supernet is not None:
        net = build(config.base).requires_grad_(False).to(device)
        return Teacher(net.sam, lambda images: net.teacher(images).clone())
    sam = load_sam(config.base).requires_grad_(False).to(device)
    return Teacher(sam, lambda images: encode(sam, images))


class _Bare:
    """The base alone, as a student whose weights are looked at."""

    def __init__(self, base: Base) -> None:
        self.sam, self._base = base.sam, base
        self.module: torch.nn.Module = base.sam
        self.adapters: Sequence[WeightAdapter] = ()
        if base.supernet is not None:
            base.supernet.activate(base.plan)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        if self._base.supernet is None:
            return encode(self.sam, images)
        embedding: torch.Tensor = self._base.supernet(images)
        return embedding


def _sample(base: Base, config: FinetuneConfig) -> WeightAdapter:
    """One adapter of the recipe's kind, for what its options make of it."""
    own = config.adapter
    require_free(own.options)
    plugin, _ = resolve_kind(own.kind)
    shape = MatrixSlice(base.sam.geometry.dim, base.sam.geometry.dim)
    rng = torch.Generator().manual_seed(0)
    return construct(plugin, own.kind, shape, rng, own.options, roles=ROLES)


def _targets(base: Base, config: FinetuneConfig) -> tuple[str, dict[str, str]]:
    """Targets among the modules of the base, and names of the student's layers by theirs."""
    if base.plan is None:
        return targets_of(config), {}
    pattern = config.adapter.targets
    names = {
        _stock(layer): layer
        for layer in subnet_layers(base.plan)
        if pattern is None or re.fullmatch(pattern, layer)
    }
    targets = "|".join(re.escape(name) for name in names)
    return targets, {name: names[name] for name in matching_linears(base.sam, targets)}


def _stock(layer: str) -> str:
    """The module of `segment_anything` that holds a layer of a subnet."""
    block, _, name = layer.rpartition(".")
    return f"image_encoder.{block}.{'attn' if name in ('qkv', 'proj') else 'mlp'}.{name}"
