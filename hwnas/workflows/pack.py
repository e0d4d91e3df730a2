"""Make the small files that ship: 8 bits per output channel, the head alone, or the adapters."""

from __future__ import annotations

from pathlib import Path

from hwnas.errors import ConfigError
from hwnas.records.tensor_files import check_tensor_name
from hwnas.supernet.checkpoint import read_metadata, read_tensors, save_weights
from hwnas.supernet.supernet_file import is_supernet_file, pack_supernet_file

__all__ = ["pack_file", "pack_model", "pack_supernet"]

_ENCODER, _NECK = "image_encoder.", "image_encoder.neck."


def pack_file(source: str | Path, *, out: str | Path, head_only: bool = False) -> Path:
    """Pack a supernet file (`pack_supernet`) or the weights of a model (`pack_model`).

    Raises:
        ConfigError: `out` is the source or has another ending than `.safetensors[.gz]`, or
            `head_only` is asked of a supernet.
        CheckpointError: the source cannot be read.
    """
    if not is_supernet_file(source):
        return pack_model(source, out=out, head_only=head_only)
    if head_only:
        raise ConfigError(
            f"{source} is a supernet, which has no head of its own; name the weights of its base, "
            "or leave --head-only out"
        )
    return pack_supernet(source, out=out)


def pack_model(source: str | Path, *, out: str | Path, head_only: bool = False) -> Path:
    """Pack the weights in `source` to 8 bits per output channel and write them to `out`.

    `head_only` leaves out the encoder before its neck, for models whose encoder a user rebuilds
    by `convert`. The metadata is kept and says `packing = int8 per output channel`.
    """
    _check(source, out)
    tensors = read_tensors(source)
    if head_only:
        tensors = {
            k: v for k, v in tensors.items() if not k.startswith(_ENCODER) or k.startswith(_NECK)
        }
    metadata = {**read_metadata(source), "packing": "int8 per output channel"}
    return save_weights(out, tensors, metadata=metadata, packed=True)


def pack_supernet(source: str | Path, *, out: str | Path) -> Path:
    """Write a supernet file without its base weights, adapters at 8 bits with a scale per rank.

    The scales of its quantizers are rounded to 10 bits of mantissa; order, norms and whatever
    else was trained is copied. The result is a supernet file as any other, for the same base:
    as `X_supernet.safetensors.gz` beside `X.safetensors` it is found when that is named.
    """
    _check(source, out)
    return pack_supernet_file(source, out)


def _check(source: str | Path, out: str | Path) -> None:
    check_tensor_name(out)
    if Path(out).resolve() == Path(source).resolve():
        raise ConfigError(f"{out}: source and result are the same file; name another result")
