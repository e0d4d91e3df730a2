"""A subnet as safetensors and JSON, and back: equal to the bit, without the supernet.

`encoder.safetensors` holds the encoder: integer codes packed to the bits that they need, everything
else in float32. `decoder.safetensors` holds prompt encoder and mask decoder, each tensor in the
smallest form that gives it back exactly (8-bit codes with scales, float16, float32).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from hwnas.errors import CheckpointError, ExportError
from hwnas.export.code_packing import PackedCodes, pack_codes
from hwnas.quant.linear import ActivationGrid, FakeLinear, FloatLinear, IntegerLinear
from hwnas.records.files import replace_bytes
from hwnas.supernet.attention import Attention, AttentionGrids
from hwnas.supernet.encoder_view import BlockView, EncoderView, Norm
from hwnas.supernet.neck_conv import FloatConv, IntegerConv
from hwnas.supernet.packing import pack, unpack
from hwnas.supernet.sam_model import build_sam
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.subnet import Subnet
from hwnas.supernet.supernet_file import hash_weights
from hwnas.workload.sam_geometry import SamGeometry
from hwnas.workload.sam_plan import BlockPlan, EncoderPlan

__all__ = ["DECODER", "ENCODER", "LoadedSubnet", "check_equal", "load_subnet", "save_subnet"]

ENCODER, DECODER = "encoder.safetensors", "decoder.safetensors"
_FORMAT = "hwnas-subnet-1"
_PARTS = ("prompt_encoder.", "mask_decoder.")
_CLASSES = {
    cls.__name__: cls
    for cls in (
        ActivationGrid, Attention, AttentionGrids, BlockPlan, BlockView, EncoderPlan, EncoderView,
        FakeLinear, FloatConv, FloatLinear, IntegerConv, IntegerLinear, Norm, SamGeometry,
    )
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class LoadedSubnet:
    """A subnet that was read: `encoder` maps images to embeddings, `sam` decodes prompts.

    `sam` has the stock prompt encoder and mask decoder and no image encoder.
    """

    encoder: Subnet
    sam: Any


def save_subnet(subnet: Subnet, sam: Any, folder: Path) -> tuple[Path, Path]:
    """Write both files.

    Raises:
        RunError: they cannot be written.
    """
    tensors, packing = {}, {}
    for name, buffer in subnet.named_buffers():
        if buffer.dtype == torch.int8:
            packed = pack_codes(buffer.cpu().numpy())
            tensors[name] = torch.from_numpy(packed.data)
            packing[name] = [list(packed.shape), packed.bits, packed.lowest, packed.step]
        else:
            tensors[name] = buffer.contiguous()
    header = {
        "format": _FORMAT,
        "plan": json.dumps(_plain(subnet.plan)),
        "skeleton": json.dumps(_plain(subnet.view())),
        "packing": json.dumps(packing),
    }
    encoder, decoder = folder / ENCODER, folder / DECODER
    _write(encoder, tensors, header)
    state = {k: v for k, v in sam.state_dict().items() if k.startswith(_PARTS)}
    geometry = json.dumps(_plain(sam.geometry))
    _write(decoder, _smallest(state), {"format": _FORMAT, "geometry": geometry})
    return encoder, decoder


def load_subnet(folder: str | Path) -> LoadedSubnet:
    """Read what `save_subnet` has written.

    Raises:
        CheckpointError: a file is missing, damaged, changed, or something else.
    """
    tensors, header = _read(Path(folder) / ENCODER)
    for name, (shape, bits, lowest, step) in json.loads(header["packing"]).items():
        packed = PackedCodes(tensors[name].numpy(), tuple(shape), bits, lowest, step)
        tensors[name] = torch.from_numpy(packed.unpack())
    view = _object(json.loads(header["skeleton"]), tensors)
    subnet = Subnet(view, _object(json.loads(header["plan"]), {}))
    state, header = _read(Path(folder) / DECODER)
    return LoadedSubnet(subnet, _decoder_of(_object(json.loads(header["geometry"]), {}), state))


def check_equal(
    loaded: LoadedSubnet, supernet: SamSupernet, plan: EncoderPlan, image: torch.Tensor
) -> None:
    """Compare what was read with the supernet, to the last bit, on a normalized image.

    Raises:
        ExportError: an embedding, or a weight of the decoder, differs.
    """
    if not torch.equal(supernet.embed(image, plan), loaded.encoder(image)):
        raise ExportError(
            "torch: the file that was read back gives another embedding than the supernet; nothing "
            "was written; please report the design with its genes"
        )
    own = supernet.sam.state_dict()
    changed = [n for n, v in loaded.sam.state_dict().items() if not torch.equal(v, own[n])]
    if changed:
        raise ExportError(f"torch: {', '.join(changed)} differ after reading them back")


def _decoder_of(geometry: SamGeometry, state: dict[str, torch.Tensor]) -> Any:
    """Stock prompt encoder and mask decoder; the image encoder beside them is left out."""
    small = dataclasses.replace(geometry, depth=1, stages=1, global_blocks=(0,))
    sam = build_sam(small)
    sam.geometry, sam.image_encoder = geometry, nn.Identity()
    try:
        sam.load_state_dict(unpack(state), strict=True)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{DECODER}: not the decoder of {geometry.name}: {error}") from error
    return sam


def _smallest(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each tensor in the smallest form that gives it back exactly."""
    found: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        value = tensor.detach().cpu().contiguous()
        half = {name: value.half()} if value.is_floating_point() else {}
        for form in (pack({name: value}), half):
            if form and torch.equal(unpack(form)[name], value):
                found |= form
                break
        else:
            found[name] = value
    return found


def _plain(value: Any, name: str = "") -> Any:
    """Dataclasses, tuples and tensors as JSON; a tensor is the name of its buffer."""
    prefix = f"{name}/" if name else ""
    if isinstance(value, torch.Tensor):
        return {"tensor": name}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = {f.name: _plain(getattr(value, f.name), prefix + f.name)
                 for f in dataclasses.fields(value)}  # fmt: skip
        return {"class": type(value).__name__, "fields": items}
    if isinstance(value, tuple):
        return [_plain(item, f"{prefix}{i}") for i, item in enumerate(value)]
    return value


def _object(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return tuple(_object(item, tensors) for item in value)
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    fields = {name: _object(item, tensors) for name, item in value["fields"].items()}
    return _CLASSES[value["class"]](**fields)


def _write(path: Path, tensors: dict[str, torch.Tensor], header: dict[str, str]) -> None:
    replace_bytes(path, save(tensors, {**header, "sha256": _hash(tensors, header)}))


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}); expected a file of hwnas export, whole"
        ) from error
    if header.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: not a file of hwnas export ({_FORMAT}); export it again")
    expected = header.pop("sha256", "")
    if _hash(tensors, header) != expected:
        raise CheckpointError(
            f"{path}: its tensors are not those that were exported (their sha256 differs from the "
            "one in the file); copy the file again, or export again"
        )
    return tensors, header


def _hash(tensors: dict[str, torch.Tensor], header: dict[str, str]) -> str:
    text = json.dumps({**header, "tensors": hash_weights(tensors)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
