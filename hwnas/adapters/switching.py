"""Sparse adapters exchanged in place: a few entries written, and later the old ones put back.

Source: Bhardwaj et al., "Sparse High Rank Adapters" (2024), section 3.2: a fused adapter is
switched by scattering values at its indices, without touching the rest of a weight. We keep what
was overwritten instead of subtracting later, so that no rounding accumulates. On integer weights
the same write exchanges codes, which is right only while scales are frozen: with scales read off
the merged weight, one large entry changes the codes of its whole row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from hwnas.adapters.attaching import Attached
from hwnas.adapters.kinds.shira import ShiraAdapter, ShiraDoraAdapter
from hwnas.adapters.kinds.sparse_entries import SparseDelta
from hwnas.adapters.layer_quantizer import LayerQuantizer
from hwnas.errors import ConfigError
from hwnas.quant.linear import integer_codes
from hwnas.quant.lsq import positive

__all__ = ["AdapterSwitch", "SparseWrite", "code_writes", "sparse_deltas", "weight_writes"]


@dataclass(frozen=True, slots=True)
class SparseWrite:
    """What a tensor of `shape` is to hold: `values` (k,) at flat `entries` (k,), each once."""

    entries: torch.Tensor
    values: torch.Tensor
    shape: tuple[int, int]

    @property
    def stored_bytes(self) -> int:
        """Its size in a file: an int32 for each entry, and the values."""
        return len(self.entries) * (4 + self.values.itemsize)


class AdapterSwitch:
    """Weights or codes of which one sparse adapter at a time is a part, or none.

    `tensors` are changed in place; they are those of a model, by the names of its layers.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self.tensors = dict(tensors)
        self.present: str | None = None
        self._overwritten: dict[str, SparseWrite] = {}

    @torch.no_grad()
    def swap_in(self, name: str, writes: Mapping[str, SparseWrite]) -> None:
        """Write an adapter; the present one is taken out first.

        Raises:
            ConfigError: it does not fit the tensors; nothing is changed then.
        """
        self._check(name, writes)
        self.swap_out()
        for path, write in writes.items():
            flat = self.tensors[path].view(-1)
            before = flat.index_select(0, write.entries)
            self._overwritten[path] = SparseWrite(write.entries, before, write.shape)
            flat.scatter_(0, write.entries, write.values)
        self.present = name

    @torch.no_grad()
    def swap_out(self) -> None:
        """Put back what was overwritten, to the last bit; does nothing where nothing was."""
        for path, write in self._overwritten.items():
            self.tensors[path].view(-1).scatter_(0, write.entries, write.values)
        self._overwritten, self.present = {}, None

    def _check(self, name: str, writes: Mapping[str, SparseWrite]) -> None:
        problems = [f"{path}: no such layer" for path in writes if path not in self.tensors]
        for path in writes.keys() & self.tensors.keys():
            write, tensor = writes[path], self.tensors[path]
            if (write.shape, write.values.dtype) != (tuple(tensor.shape), tensor.dtype):
                problems.append(
                    f"{path}: {write.values.dtype} for {write.shape}, expected {tensor.dtype} for "
                    f"{tuple(tensor.shape)}"
                )
        if problems:
            raise ConfigError(
                f"adapter {name!r} does not fit: {'; '.join(sorted(problems)[:8])}; give the "
                "writes that were made for these tensors"
            )


def sparse_deltas(attached: Attached, name: str) -> dict[str, SparseDelta]:
    """What a SHiRA adapter, plain or with DoRA, adds to each layer.

    Raises:
        ConfigError: there is no adapter of this name, or it is not sparse.
    """
    if name not in attached.specs:
        raise ConfigError(f"no adapter {name}; attached are {', '.join(attached.specs) or 'none'}")
    found = {}
    for path, adapter in attached.adapters(name).items():
        if not isinstance(adapter, ShiraAdapter | ShiraDoraAdapter):
            raise ConfigError(
                f"adapter {name!r} is {attached.specs[name].kind}, which changes every weight; "
                "only shira and shira_dora can be switched by writing a few: merge it instead"
            )
        found[path] = adapter.sparse(attached.layers[path].weight.detach())
    return found


@torch.no_grad()
def weight_writes(
    weights: Mapping[str, torch.Tensor], deltas: Mapping[str, SparseDelta], strength: float = 1.0
) -> dict[str, SparseWrite]:
    """The entries of floating-point weights (O, I) with an adapter in them, `strength` times."""
    writes = {}
    for path, delta in deltas.items():
        before = weights[path].detach().view(-1)[delta.entries]
        values = before + (delta.values * strength).to(before.dtype)
        writes[path] = SparseWrite(delta.entries, values, delta.shape)
    return writes


@torch.no_grad()
def code_writes(
    weights: Mapping[str, torch.Tensor], deltas: Mapping[str, SparseDelta],
    quantizers: Mapping[str, LayerQuantizer | None], strength: float = 1.0,
) -> dict[str, SparseWrite]:  # fmt: skip
    """The int8 codes that an adapter changes, on the grids of the frozen weights (O, I).

    Entries whose code stays are left out, so there are at most as many as the adapter has.

    Raises:
        ConfigError: a layer has no quantizer, or its scales are not frozen; then codes that the
            adapter does not name would change too.
    """
    writes = {}
    for path, delta in deltas.items():
        scale, bits = _frozen_grid(path, quantizers.get(path))
        steps = scale[delta.entries // delta.shape[1]]  # (k,), that of each entry's row
        before = weights[path].detach().view(-1)[delta.entries]
        old, new = (
            integer_codes(values[:, None], steps, bits)[0][:, 0]
            for values in (before, before + delta.values * strength)
        )
        moved = old != new
        writes[path] = SparseWrite(delta.entries[moved], new[moved], delta.shape)
    return writes


def _frozen_grid(path: str, quantizer: LayerQuantizer | None) -> tuple[torch.Tensor, int]:
    if quantizer is None:
        raise ConfigError(
            f"{path} has no fixed scales: with scales that follow the merged weight an adapter "
            "changes codes all over its rows; give the LayerQuantizer of the frozen weight"
        )
    if quantizer.scale.requires_grad:
        raise ConfigError(
            f"{path}: its scales are still learned, so each adapter would have its own and change "
            "codes that it does not name; freeze them (`scale.requires_grad_(False)`) before "
            "adapters are trained that are to be switched"
        )
    return positive(quantizer.scale.detach()), quantizer.w_bits
