"""Make the small files that ship: 8 bits per output channel, or the head alone."""

from __future__ import annotations

from pathlib import Path

from hwnas.errors import ConfigError
from hwnas.supernet.checkpoint import read_metadata, read_tensors, save_weights

__all__ = ["pack_model"]

_ENCODER, _NECK = "image_encoder.", "image_encoder.neck."


def pack_model(source: str | Path, *, out: str | Path, head_only: bool = False) -> Path:
    """Pack the weights in `source` to 8 bits per output channel and write them to `out`.

    `head_only` leaves out the encoder before its neck, for models whose encoder a user rebuilds
    by `convert`. The metadata is kept and says `packing = int8 per output channel`.
    """
    if Path(out).resolve() == Path(source).resolve():
        raise ConfigError(f"{out}: source and result are the same file; name another result")
    tensors = read_tensors(source)
    if head_only:
        tensors = {
            k: v for k, v in tensors.items() if not k.startswith(_ENCODER) or k.startswith(_NECK)
        }
    metadata = {**read_metadata(source), "packing": "int8 per output channel"}
    return save_weights(out, tensors, metadata=metadata, packed=True)
