"""SAM as a supernet: any subnet of its image encoder, with its prompt encoder and mask decoder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hwnas.adapters import AdapterBank
from hwnas.errors import CheckpointError
from hwnas.records.tensor_files import file_beside
from hwnas.supernet.checkpoint import (
    load_sam,
    read_metadata,
    sam_of,
    shipped_file,
)
from hwnas.supernet.elastic_encoder import ElasticEncoder
from hwnas.supernet.encoder_order import EncoderOrder, drop_order, sort_encoder
from hwnas.supernet.encoder_weights import freeze_weights
from hwnas.supernet.scale_table import ScaleTable
from hwnas.supernet.semantic import classes_of
from hwnas.supernet.subnet import Subnet
from hwnas.supernet.supernet_file import (
    SupernetFile,
    hash_weights,
    is_supernet_file,
    read_supernet_file,
    write_supernet_file,
)
from hwnas.supernet.trained_tensors import TrainedTensors, changed_weights
from hwnas.workload.sam_geometry import GEOMETRIES, SamGeometry
from hwnas.workload.sam_plan import EncoderPlan, plan_of

__all__ = [
    "SamSupernet",
    "build",
    "load_base",
    "save_supernet",
    "supernet_beside",
    "supernet_path",
]

_PART = "supernet"
_log = logging.getLogger(__name__)


class SamSupernet(nn.Module):
    """A SAM whose image encoder is elastic; stock modules and keys are under `sam`.

    `order` is the one in which the encoder has been sorted already (`sort_encoder`). With
    `adapters` the weights of the encoder are frozen; without, all of them can be trained.
    `checkpoint` trades time for memory in training (`ElasticEncoder`).
    """

    def __init__(
        self, sam: Any, *, scales: ScaleTable | None = None, order: EncoderOrder | None = None,
        adapters: AdapterBank | None = None, checkpoint: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.geometry: SamGeometry = sam.geometry
        self.sam = sam
        self.order = EncoderOrder.stock(self.geometry) if order is None else order
        self.encoder = ElasticEncoder(
            sam.image_encoder, self.geometry, scales, adapters=adapters, checkpoint=checkpoint
        )
        if adapters is not None:
            freeze_weights(sam.image_encoder)
        self._active = EncoderPlan.uniform(self.geometry)
        self.eval()

    def plan(self, arch: Any) -> EncoderPlan:
        """The plan of an `Arch`, a mapping of genes, or a plan."""
        return arch if isinstance(arch, EncoderPlan) else plan_of(arch, self.geometry)

    @property
    def drop_order(self) -> tuple[tuple[int, ...], ...]:
        """For each stage its blocks, least important first; the last is never dropped."""
        return drop_order(self.order.blocks, self.geometry)

    def resolution(self, arch: Any) -> int:
        """Side of the square input of an arch, in pixels."""
        return self.plan(arch).resolution

    def activate(self, arch: Any) -> None:
        """Make `arch` the subnet that calls run; weights are borrowed, not copied."""
        self._active = self.plan(arch)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed normalized images (B, 3, R, R) with the active subnet: (B, 256, g, g)."""
        embedding: torch.Tensor = self.encoder(images, self._active)
        return embedding

    @torch.inference_mode()
    def embed(self, images: torch.Tensor, arch: Any) -> torch.Tensor:
        """Embed images with the subnet of `arch`, whatever is active."""
        embedding: torch.Tensor = self.encoder(images, self.plan(arch))
        return embedding

    @torch.inference_mode()
    def teacher(self, images: torch.Tensor) -> torch.Tensor:
        """Embed images with the largest network in full precision, at the images' resolution."""
        plan = EncoderPlan.uniform(self.geometry, resolution=images.shape[-1])
        embedding: torch.Tensor = self.encoder(images, plan)
        return embedding

    def subnet(self, arch: Any) -> Subnet:
        """An independent module with copied slices that computes what `activate(arch)` does."""
        plan = self.plan(arch)
        with torch.no_grad():
            return Subnet(self.encoder.view(plan), plan)


def build(
    name_or_path: str | Path, *, base: str | Path | None = None,
    geometry: SamGeometry | None = None,
) -> SamSupernet:  # fmt: skip
    """Build the supernet of a shipped name (`sam-vit-t`), a supernet file, or a checkpoint.

    A trained supernet file brings its adapters and whatever else was trained, a semantic one its
    classes. A supernet file without weights takes them from `base`, else from the shipped model of
    its geometry; both must be the ones that it was prepared for.

    A plain checkpoint takes the supernet that lies beside it (`supernet_beside`), else the one
    that ships for its geometry if that was trained on these very weights. With neither it has no
    scales: it runs in floating point until `prepare_supernet` has calibrated it.
    """
    if str(name_or_path) in GEOMETRIES:
        return _from_name(str(name_or_path))
    if not Path(name_or_path).is_file():
        raise CheckpointError(
            f"{name_or_path}: no such file; expected a supernet file, a checkpoint, or one of "
            f"{', '.join(GEOMETRIES)}"
        )
    if is_supernet_file(name_or_path):
        file = read_supernet_file(name_or_path)
        return _assemble(file, _base_of(file, base, str(name_or_path)), str(name_or_path))
    return _from_checkpoint(Path(name_or_path), load_sam(name_or_path, geometry))


def load_base(name_or_path: str | Path) -> Any:
    """Build the full-precision model that a supernet was made of, as it was before training.

    `name_or_path` is a shipped name, a plain checkpoint, or a supernet file; one without weights
    names a shipped model by its geometry.

    Raises:
        CheckpointError: the file cannot be read, or its base is not at hand.
    """
    if str(name_or_path) in GEOMETRIES or not is_supernet_file(name_or_path):
        return load_sam(name_or_path)
    return _base_of(read_supernet_file(name_or_path), None, str(name_or_path))


def save_supernet(
    supernet: SamSupernet, path: str | Path, *, base_weights: dict[str, torch.Tensor],
    with_base: bool = False, notes: dict[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Write a supernet, trained or not, as the file that `build` reads.

    `base_weights` are those of the unsorted base checkpoint (`load_sam(base).state_dict()`).
    Written are order, scales, adapters and every tensor that differs from the base; adapters and
    changed tensors are rounded to float16 (`trained_tensors.py`), so what `build` gives back
    differs by that much. `notes` is JSON that says how all this was made.
    """
    tuned = changed_weights(supernet.sam, base_weights, supernet.order)
    trained = None
    if supernet.encoder.adapters is not None or tuned:
        classes = classes_of(supernet.sam) or ()
        trained = TrainedTensors(supernet.encoder.adapters, tuned, classes)
    return write_supernet_file(
        path, geometry=supernet.geometry, order=supernet.order, scales=supernet.encoder.scales,
        base_weights=base_weights, with_base=with_base, notes=notes or {}, trained=trained,
    )  # fmt: skip


def supernet_path(name: str) -> Path | None:
    """Where the supernet file that ships for a model lies, if one does; its base may not ship."""
    return shipped_file(name, _PART)


def supernet_beside(checkpoint: str | Path) -> Path | None:
    """The supernet file `X_supernet.safetensors[.gz]` beside the weights `X`, if there is one."""
    return file_beside(checkpoint, _PART)


def _from_name(name: str) -> SamSupernet:
    path = supernet_path(name)
    if path is None:
        return SamSupernet(load_sam(name))
    file = read_supernet_file(path)
    return _assemble(file, _base_of(file, name, str(path)), str(path))


def _from_checkpoint(path: Path, sam: Any) -> SamSupernet:
    """A plain checkpoint with the supernet beside it, with the shipped one, or without scales."""
    beside, shipped = supernet_beside(path), supernet_path(sam.geometry.name)
    found = beside or shipped
    if found is None:
        return SamSupernet(sam)
    own, wanted = hash_weights(sam.state_dict()), read_metadata(found).get("base_hash", "")
    if own != wanted and beside is None:
        return SamSupernet(sam, scales=ScaleTable({}, advice=_advice(sam.geometry, own, wanted)))
    file = read_supernet_file(found)
    if own != wanted:
        raise _other_weights(str(found), path)
    _log.info("%s: with the supernet %s", path, found)
    if file.base_weights is not None:  # as if the supernet itself had been named
        sam = _base_of(file, None, str(found))
    return _assemble(file, sam, str(found))


def _advice(geometry: SamGeometry, own: str, wanted: str) -> str:
    name = geometry.name
    made = f"make that base with `hwnas convert {name} --base BACKBONE --out FILE` and name it"
    if shipped_file(name) is not None:
        made = f"name {name} instead of a file"
    return (
        f"the adapters that ship for {name} belong to another base ({wanted[:12]}, this one is "
        f"{own[:12]}): {made}, or `hwnas prepare CHECKPOINT --data DIR --out FILE` calibrates this "
        "one"
    )


def _base_of(file: SupernetFile, base: str | Path | None, source: str) -> Any:
    """The model that a supernet file belongs to, not sorted yet."""
    if file.base_weights is not None:
        return sam_of(file.geometry, file.base_weights, source=source)
    sam = load_sam(file.geometry.name if base is None else base, file.geometry)
    if hash_weights(sam.state_dict()) != file.base_hash:
        raise _other_weights(source, base or file.geometry.name)
    return sam


def _assemble(file: SupernetFile, sam: Any, source: str) -> SamSupernet:
    sort_encoder(sam.image_encoder, file.order, file.geometry)
    file.trained.apply(sam, source=source)
    return SamSupernet(sam, scales=file.scales, order=file.order, adapters=file.trained.adapters)


def _other_weights(source: str, base: object) -> CheckpointError:
    return CheckpointError(
        f"{source} was prepared for other weights than {base}; "
        "give the base checkpoint that it belongs to, or prepare the supernet again"
    )
