"""A side network as what a fine-tuning trains, with the mask decoder or without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hwnas.adapters import WeightAdapter
from hwnas.errors import CheckpointError, ConfigError
from hwnas.supernet.checkpoint import load_weights
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.side.encoder import ReadFeatures, SideEncoder
from hwnas.supernet.side.feature_cache import FeatureCache
from hwnas.supernet.side.features import Backbone, SamBackbone, SubnetBackbone
from hwnas.supernet.side.files import load_side, save_side
from hwnas.supernet.side.network import SideNetwork, side_network
from hwnas.workload.sam_plan import EncoderPlan

__all__ = ["SideStudent", "side_student"]

Groups = dict[str, list[tuple[str, nn.Parameter]]]
_DECODER = "mask_decoder."


class SideStudent(nn.Module):
    """A side network beside `backbone`, whose embeddings the decoder of `sam` reads.

    It answers to what `hwnas.supernet.training.finetuning` asks of a student. Everything of `sam`
    is frozen by this but, with `train_decoder`, its mask decoder.

    Args:
        sam: The model of the prompt encoder and the mask decoder, on the backbone's device.
        backbone: The frozen encoder, the one of `sam` or a subnet of a supernet.
        side: The network to train.
        train_decoder: Train the mask decoder, too.
        recompute: Keep less for backward and compute cells twice (`SideNetwork`).
        read: Another way to the features than the encoder itself, a `FeatureCache`.
    """

    def __init__(
        self, sam: Any, backbone: Backbone, side: SideNetwork, *, train_decoder: bool = False,
        recompute: bool = False, read: ReadFeatures | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.sam = sam.requires_grad_(False)
        self.side = side.to(next(sam.parameters()).device)
        self.side.recompute = recompute
        self.encoder = SideEncoder(backbone, self.side, read)
        self.train_decoder = train_decoder

    @property
    def module(self) -> nn.Module:
        return self

    @property
    def adapters(self) -> Sequence[WeightAdapter]:
        """None: a side network is no adapter of a weight."""
        return ()

    def embed(self, images: torch.Tensor, *, frames: int = 1) -> torch.Tensor:
        """Normalized images (B, 3, R, R), or B / F clips, to embeddings (B, 256, R/16, R/16)."""
        return self.encoder(images, frames=frames)

    @contextmanager
    def beside(self, backbone: Backbone) -> Iterator[None]:
        """Read another encoder within the block, such as another subnet; from no cache."""
        own = self.encoder
        self.encoder = SideEncoder(backbone, self.side)
        try:
            yield
        finally:
            self.encoder = own

    def groups(self) -> Groups:
        """Parameters by what they are: `weights`, `gate` (no decay) and `decoder`."""
        groups: Groups = {}
        for name, parameter in self.named_parameters():
            if name.startswith("side."):
                kind = "gate" if name.endswith(".gate") else "weights"
                groups.setdefault(kind, []).append((name, parameter))
            elif self.train_decoder and name.startswith(f"sam.{_DECODER}"):
                groups.setdefault("decoder", []).append((name, parameter))
        return groups

    def write_adapters(self, place: Path) -> list[Path]:
        """Write the side network into the folder `place` (`save_side`); returns its files."""
        save_side(self.side, place, base=self.encoder.backbone.key)
        return sorted(path for path in place.iterdir() if path.is_file())

    def tuned_tensors(self) -> dict[str, torch.Tensor]:
        """The tensors of the decoder by their names in `sam`, where it is trained."""
        if not self.train_decoder:
            return {}
        own = self.sam.mask_decoder.state_dict()
        return {f"{_DECODER}{name}": value.detach() for name, value in own.items()}

    def load_tuned(self, tuned: Mapping[str, torch.Tensor], *, source: str) -> None:
        """Take over what `tuned_tensors` gave.

        Raises:
            CheckpointError: names or shapes differ.
        """
        if self.train_decoder:
            own = {name.removeprefix(_DECODER): value for name, value in tuned.items()}
            load_weights(self.sam.mask_decoder, own, source=source)
        elif tuned:
            raise CheckpointError(
                f"{source}: {len(tuned)} tensors of a trained decoder, and this student has a "
                "frozen one; make it with train_decoder"
            )


def side_student(
    model: Any, method: str, options: Mapping[str, Any] | None = None, *, seed: int = 0,
    plan: EncoderPlan | None = None, train_decoder: bool = False, cache: str | Path | None = None,
    kept: str | Path | None = None,
) -> SideStudent:  # fmt: skip
    """A fresh side network of a method, ready to be trained, or one that is `kept` in a folder.

    Args:
        model: A `segment_anything` model, or a supernet with the `plan` of one subnet.
        method: `losa`, `lst` or `res_bypass`.
        options: Those of `SideConfig` that differ from the method's, and `recompute`.
        seed: Draws what is random in it.
        plan: The subnet, where the model is a supernet.
        train_decoder: Train the mask decoder, too.
        cache: A folder for features (`FeatureCache`), of use with views that come again.
        kept: A folder that `save_side` wrote beside this encoder; method and options are its own.

    Raises:
        ConfigError: an unknown method or option, or a supernet without a plan.
        CheckpointError: `kept` is damaged, or was trained beside another encoder.
    """
    own = dict(options or {})
    recompute = bool(own.pop("recompute", False))
    sam, backbone = _opened(model, plan)
    if kept is not None:
        side = load_side(kept, base=backbone.key)
    else:
        side = side_network(sam.geometry, method, seed=seed, **own)
    read = None if cache is None else FeatureCache(cache, backbone, side)
    return SideStudent(
        sam, backbone, side, train_decoder=train_decoder, recompute=recompute, read=read
    )


def _opened(model: Any, plan: EncoderPlan | None) -> tuple[Any, Backbone]:
    if isinstance(model, SamSupernet) and plan is not None:
        return model.sam, SubnetBackbone(model, plan)
    if isinstance(model, SamSupernet) or plan is not None:
        raise ConfigError(
            f"a side network beside {type(model).__name__} and "
            f"{'a plan' if plan is not None else 'no plan'}; expected a supernet with the plan of "
            "one subnet, or a plain model without one"
        )
    return model, SamBackbone(model)
