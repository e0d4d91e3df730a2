"""A plain SAM that is fine-tuned: adapters on its linear layers, or itself for reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hwnas.adapters import SAM_LINEARS, AdaptedLinear, Attached, LayerQuantizer, WeightAdapter
from hwnas.adapters.attaching import matching_linears
from hwnas.adapters.files import load, save
from hwnas.config.finetuning import FinetuneConfig
from hwnas.errors import CheckpointError
from hwnas.supernet.sam_model import encode
from hwnas.supernet.training.finetuning.student import (
    Groups,
    copy_tensors,
    reference_groups,
    require_free,
)

__all__ = ["AttachedStudent", "targets_of"]

_ADAPTERS, _BASE = ".adapters.", ".base."
_KEPT = (".frozen", ".held", ".quantizer.scale", ".quantizer.range")


def targets_of(config: FinetuneConfig) -> str:
    """The regular expression for the adapted layers of a plain model."""
    return config.adapter.targets or SAM_LINEARS


class AttachedStudent(nn.Module):
    """Adapters of the recipe's kind on `sam`, which is changed in place.

    With a quantizer in the recipe the layers are made to carry one, without adapters too; it is
    added by `add_quantizers`.

    Args:
        sam: A `segment_anything` model.
        config: The recipe.
        seed: Draws what is random in fresh adapters.
        gradients: Mean size of the gradient (O, I) by layer, for adapters that want it.
        kept: A folder to read the adapters from, in place of fresh ones.

    Raises:
        ConfigError: no layer matches, or gradients are missing.
        PluginError: there is no such adapter, or it does not take the options.
    """

    def __init__(
        self, sam: Any, config: FinetuneConfig, *, seed: int,
        gradients: Mapping[str, torch.Tensor] | None = None, kept: Path | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.sam, self.config = sam.requires_grad_(False), config
        self.attached = Attached(sam)
        own = config.adapter
        if config.reference is None and kept is not None:
            self.attached = load(sam, kept)
        elif config.reference is None:
            require_free(own.options)
            self.attached.add(
                own.kind, targets=targets_of(config), seed=seed, gradients=gradients, **own.options
            )
        elif config.quantizer is not None or config.freeze.rows != "none":
            self.attached.layers = _wrapped(sam, targets_of(config))

    @property
    def module(self) -> nn.Module:
        return self

    @property
    def layers(self) -> dict[str, AdaptedLinear]:
        """The layers that can carry adapters and quantizers, by their names in `sam`."""
        return self.attached.layers

    @property
    def adapters(self) -> Sequence[WeightAdapter]:
        return [adapter for layer in self.layers.values() for adapter in layer.acting()]

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        for adapter in self.adapters:
            if hasattr(adapter, "images"):  # gates look at whole images, not at windows
                adapter.images = len(images)  # type: ignore[assignment]
        return encode(self.sam, images)

    def groups(self) -> Groups:
        found = reference_groups(self.named_parameters(), self.config, prefix="sam.")
        for group, members in self.attached.trainable_groups().items():
            found.setdefault(group, []).extend((f"sam.{name}", p) for name, p in members)
        if self.config.quantizer is not None and self.config.quantizer.learned:
            found["scales"] = [
                (name, p) for name, p in self.named_parameters() if ".quantizer." in name
            ]
        return found

    def write_adapters(self, place: Path) -> list[Path]:
        if not self.attached.specs:
            return []
        return sorted(path for path in save(self.attached, place).iterdir() if path.is_file())

    def tuned_tensors(self) -> dict[str, torch.Tensor]:
        trained = {
            name.removeprefix("sam.")
            for group in self.groups().values() for name, _ in group
            if _ADAPTERS not in name
        }  # fmt: skip
        return {
            _plain(name): value.detach()
            for name, value in self.sam.state_dict().items()
            if name in trained or (name.endswith(_KEPT) and _ADAPTERS not in name)
        }

    @torch.no_grad()
    def load_tuned(self, tuned: Mapping[str, torch.Tensor], *, source: str) -> None:
        """As the protocol; quantizers and frozen rows are made where `tuned` has them."""
        for path, layer in self.layers.items():
            if f"{path}.quantizer.scale" in tuned and self.config.quantizer is not None:
                bits = self.config.quantizer
                scale, span = (tuned[f"{path}.quantizer.{n}"] for n in ("scale", "range"))
                layer.quantizer = LayerQuantizer(scale, span, bits.w_bits, bits.a_bits)
            if f"{path}.frozen" in tuned:
                layer.freeze_rows(tuned[f"{path}.frozen"].bool(), held=tuned.get(f"{path}.held"))
        copy_tensors(tuned, self.tuned_tensors(), source=source)


def _plain(name: str) -> str:
    """The name of a tensor in the model without adapters."""
    return name if _ADAPTERS in name else name.replace(_BASE, ".")


def _wrapped(sam: Any, targets: str) -> dict[str, AdaptedLinear]:
    """The matching layers as layers that could carry adapters, and have none."""
    found = {}
    for path, layer in matching_linears(sam, targets).items():
        if isinstance(layer, AdaptedLinear):
            raise CheckpointError(f"{path} carries adapters already; begin with a plain model")
        parent, _, child = path.rpartition(".")
        found[path] = AdaptedLinear(layer, parts=3 if child == "qkv" else 1)
        setattr(sam.get_submodule(parent), child, found[path])
    return found
