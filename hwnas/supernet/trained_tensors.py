"""What training adds to a supernet file: adapters, and tensors of the model that it has changed.

`adapters.*` are float16, their low-rank factors 8 bits once packed (`pack_adapters`). `tuned.*` are
tensors of the model by name, in the sorted order of the supernet: those of the encoder in float16,
because the grids of its quantizers were learned for them, the others at 8 bits per channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import torch

from hwnas.adapters import AdapterBank
from hwnas.errors import CheckpointError, HwnasError
from hwnas.supernet.checkpoint import sam_of
from hwnas.supernet.encoder_order import EncoderOrder, sort_encoder
from hwnas.supernet.packing import as_int8, half, pack
from hwnas.supernet.semantic import classes_of, semantic_head

__all__ = ["TrainedTensors", "changed_weights", "pack_adapters"]

_ADAPTERS, _TUNED = "adapters.", "tuned."
# The factors of a low-rank adapter, and the dimension that is its rank: A (R, I), B (O, R).
_RANK_OF: Final = {"A": 0, "B": 1}
_ENCODER, _DECODER = "image_encoder.", "mask_decoder."


@dataclass(frozen=True)
class TrainedTensors:
    """Adapters, if there are any, and the tensors that replace those of the sorted base.

    `classes` are those of a semantic head, which has other shapes than the base's decoder.
    """

    adapters: AdapterBank | None = None
    tuned: Mapping[str, torch.Tensor] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    def packed(self) -> dict[str, torch.Tensor]:
        """The tensors as they are stored."""
        encoder = {n: t for n, t in self.tuned.items() if n.startswith(_ENCODER)}
        others = {n: t for n, t in self.tuned.items() if n not in encoder}
        found = {f"{_TUNED}{name}": half(value) for name, value in encoder.items()}
        found |= {f"{_TUNED}{name}": value for name, value in pack(others).items()}
        own = {} if self.adapters is None else self.adapters.tensors()
        return found | {f"{_ADAPTERS}{name}": half(value) for name, value in own.items()}

    def config(self) -> dict[str, Any] | None:
        """What the adapters are, as JSON."""
        return None if self.adapters is None else self.adapters.config()

    @classmethod
    def read(
        cls, tensors: Mapping[str, torch.Tensor], config: dict[str, Any] | None,
        classes: Sequence[str] = (), *, source: str,
    ) -> Self:  # fmt: skip
        """From the unpacked tensors of a file.

        Raises CheckpointError where tensors of adapters are missing, PluginError for adapters
        that are not installed.
        """
        bank = None
        if config is not None:
            try:
                bank = AdapterBank.of(config)
            except HwnasError as error:
                raise type(error)(f"{source}: {error}") from error
            bank.load_tensors(_under(tensors, _ADAPTERS), source=source)
        return cls(bank, _under(tensors, _TUNED), tuple(classes))

    def apply(self, sam: Any, *, source: str) -> None:
        """Replace the changed tensors of a sorted model; raises CheckpointError if one differs."""
        if self.classes:
            semantic_head(sam, self.classes, seed=0)  # for the shapes; all its tensors are stored
        own = sam.state_dict()
        wrong = [n for n, t in self.tuned.items() if n not in own or own[n].shape != t.shape]
        if wrong:
            raise CheckpointError(
                f"{source}: the trained tensors {', '.join(wrong[:6])} do not fit "
                f"{sam.geometry.name}; the file is damaged, or belongs to another model"
            )
        sam.load_state_dict(dict(self.tuned), strict=False)


def changed_weights(
    sam: Any, base_weights: Mapping[str, torch.Tensor], order: EncoderOrder
) -> dict[str, torch.Tensor]:
    """The tensors of a trained model that differ from its base, sorted likewise.

    `base_weights` are those of the unsorted base, `order` is the one that `sam` is sorted by. The
    mask decoder of a model with classes is given back whole.
    """
    base = sam_of(sam.geometry, dict(base_weights), source="the base")
    sort_encoder(base.image_encoder, order, sam.geometry)
    before = base.state_dict()
    new = () if classes_of(sam) is None else (_DECODER,)
    return {
        name: value.detach().cpu().clone()
        for name, value in sam.state_dict().items()
        if name.startswith(new) or not torch.equal(value.cpu(), before[name])
    }


def pack_adapters(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Stored tensors of a file with the factors of its low-rank adapters at 8 bits.

    Each rank of A (R, I) and B (O, R) has its own scale, since ranks differ in size by far more
    than the entries of one. Whatever else an adapter keeps (magnitudes, kernels, gates, sparse
    entries and where they are) is small, or not made of ranks, and stays as it is.
    """
    packed: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        rank = _RANK_OF.get(name.rpartition(".")[2])
        if (
            name.startswith(_ADAPTERS) and rank is not None
            and value.ndim == 2 and value.is_floating_point()
        ):  # fmt: skip
            packed |= as_int8(name, value, channel=rank)
        else:
            packed[name] = value
    return packed


def _under(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
