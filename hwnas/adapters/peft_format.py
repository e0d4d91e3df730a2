"""LoRA, DoRA and SHiRA as huggingface/peft writes them: names of fields and of tensors.

Found by running peft 0.21.2 and reading its files. Tensors are named `LAYER.lora_A.weight`
(r, I), `LAYER.lora_B.weight` (O, r), `LAYER.lora_magnitude_vector` (O,), `LAYER.shira_weight`
(k,) and `LAYER.shira_indices` (2, k) int32, rows above columns. Two things do not fit as they
are. A pair for each of q, k and v becomes one pair of three times the rank, block by block. And
peft gives every layer r (O + I) sparse entries for one r, where we have a share of O I: we write
the smallest r that holds them, and fill up with entries of value zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Protocol

import torch

from hwnas.adapters.contract import WeightAdapter
from hwnas.adapters.kinds.dora import DoraAdapter
from hwnas.adapters.kinds.lora import LoraAdapter
from hwnas.adapters.kinds.shira import ShiraAdapter
from hwnas.adapters.kinds.sparse_entries import GIVEN, SparseDelta
from hwnas.errors import CheckpointError

__all__ = ["PEFT_FORMATS", "PeftFormat", "Tensors", "foreign_format"]

Tensors = dict[str, torch.Tensor]
"""Those of one layer, by what follows the layer's name."""

_A, _B, _M = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"
_VALUES, _INDICES = "shira_weight", "shira_indices"
_REPLACED_BASES = ("pissa", "olora", "corda", "loftq", "lora_ga")
_NOT_READ = (
    "lora_bias", "fan_in_fan_out", "layer_replication", "target_parameters",
    "trainable_token_indices", "alora_invocation_tokens", "arrow_config", "kasa_config",
    "monteclora_config", "velora_config", "use_qalora", "use_bdlora",
)  # fmt: skip


class PeftFormat(Protocol):
    """How one kind is written. Shapes have been checked against the layers before `fill`."""

    suffixes: tuple[str, ...]

    def encode(
        self, adapters: Mapping[str, WeightAdapter]
    ) -> tuple[dict[str, Any], dict[str, Tensors]] | None:
        """Fields of the config and tensors by layer; None where peft cannot say it."""
        ...

    def options(
        self, config: Mapping[str, Any], layers: dict[str, Tensors]
    ) -> tuple[dict[str, Any], dict[str, Tensors]]:
        """Our options for a config of peft's own, and its tensors as these options have them."""
        ...

    def shape(self, tensors: Tensors) -> tuple[int, int] | None:
        """The (O, I) that the tensors of a layer say; None where they do not agree."""
        ...

    def constructed(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options to construct an adapter with that is to be filled."""
        ...

    def fill(self, adapter: WeightAdapter, tensors: Tensors, entries: int | None) -> None:
        """Put the tensors of a layer, `entries` of them real, into its adapter."""
        ...


class _Lora:
    suffixes: tuple[str, ...] = (_A, _B)
    dora = False

    def encode(
        self, adapters: Mapping[str, WeightAdapter]
    ) -> tuple[dict[str, Any], dict[str, Tensors]]:
        pairs = {path: self._pair(adapter) for path, adapter in adapters.items()}
        rank, gamma = next(((p.rank, p.gamma) for p in pairs.values() if p is not None), (1, 1.0))
        fused = {path: rank * p.pairs for path, p in pairs.items() if p is not None and p.pairs > 1}
        config = {
            "peft_type": "LORA", "r": rank, "lora_alpha": _number(gamma * rank),
            "rank_pattern": {re.escape(path): r for path, r in fused.items()},
            "alpha_pattern": {re.escape(path): _number(gamma * r) for path, r in fused.items()},
            "use_dora": self.dora, "use_rslora": False, "bias": "none", "lora_dropout": 0.0,
            "fan_in_fan_out": False, "init_lora_weights": True,
        }  # fmt: skip
        return config, {path: self._tensors(adapter) for path, adapter in adapters.items()}

    def _pair(self, adapter: WeightAdapter) -> LoraAdapter | None:
        assert isinstance(adapter, LoraAdapter)
        return adapter

    def _tensors(self, adapter: WeightAdapter) -> Tensors:
        pair = self._pair(adapter)
        if pair is None:  # DoRA of the magnitude alone
            rows, columns = adapter.whole.shape
            return {_A: torch.zeros(1, columns), _B: torch.zeros(rows, 1)}
        b = pair.B if pair.pairs == 1 else _block_diagonal(pair.B, pair.pairs)
        return {_A: pair.A, _B: b}

    def options(
        self, config: Mapping[str, Any], layers: dict[str, Tensors]
    ) -> tuple[dict[str, Any], dict[str, Tensors]]:
        _refuse_variants(config)
        ranks = {path: t[_A].shape[0] for path, t in layers.items()}
        rank = max(ranks.values())
        scalings = {path: _scaling(config, path, r) for path, r in ranks.items()}
        gamma = next(iter(scalings.values()))
        found = {}
        for path, tensors in layers.items():
            # One rank and one factor for all: zeros to the largest, the difference into B.
            a, b = tensors[_A].float(), tensors[_B].float()
            b = b if scalings[path] == gamma else b * (scalings[path] / gamma)
            more = rank - ranks[path]
            padded = {_A: torch.cat([a, a.new_zeros(more, a.shape[1])]),
                      _B: torch.cat([b, b.new_zeros(len(b), more)], dim=1)}  # fmt: skip
            found[path] = {**tensors, **padded}
        return {"rank": rank, "alpha": gamma * rank}, found

    def shape(self, tensors: Tensors) -> tuple[int, int] | None:
        a, b = tensors[_A], tensors[_B]
        if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1]:
            return None
        return b.shape[0], a.shape[1]

    def constructed(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return dict(options)

    def fill(self, adapter: WeightAdapter, tensors: Tensors, entries: int | None) -> None:
        del entries
        pair = self._pair(adapter)
        if pair is None:
            return
        b = tensors[_B]
        if pair.pairs > 1:
            rows = len(b) // pair.pairs
            blocks = b.view(pair.pairs, rows, pair.pairs, -1)
            b = torch.cat([blocks[i, :, i] for i in range(pair.pairs)])
        _copy(pair.A, tensors[_A], _A)
        _copy(pair.B, b, _B)


class _Dora(_Lora):
    suffixes: tuple[str, ...] = (_A, _B, _M)
    dora = True

    def _pair(self, adapter: WeightAdapter) -> LoraAdapter | None:
        assert isinstance(adapter, DoraAdapter)
        return adapter.pair

    def _tensors(self, adapter: WeightAdapter) -> Tensors:
        assert isinstance(adapter, DoraAdapter)
        return {**super()._tensors(adapter), _M: adapter.magnitude}

    def shape(self, tensors: Tensors) -> tuple[int, int] | None:
        found = super().shape(tensors)
        return found if found and tensors[_M].shape == found[:1] else None

    def fill(self, adapter: WeightAdapter, tensors: Tensors, entries: int | None) -> None:
        assert isinstance(adapter, DoraAdapter)
        super().fill(adapter, tensors, entries)
        _copy(adapter.magnitude, tensors[_M], _M)


class _Shira:
    suffixes: tuple[str, ...] = (_VALUES, _INDICES)

    def encode(
        self, adapters: Mapping[str, WeightAdapter]
    ) -> tuple[dict[str, Any], dict[str, Tensors]] | None:
        rank = max(-(-_entries(a) // sum(a.whole.shape)) for a in adapters.values())
        if any(rank * sum(a.whole.shape) > math.prod(a.whole.shape) for a in adapters.values()):
            return None
        config = {"peft_type": "SHIRA", "r": rank, "mask_type": "random", "random_seed": None,
                  "fan_in_fan_out": False, "init_weights": True}  # fmt: skip
        return config, {path: self._tensors(a, rank) for path, a in adapters.items()}

    def _tensors(self, adapter: WeightAdapter, rank: int) -> Tensors:
        assert isinstance(adapter, ShiraAdapter)
        rows, columns = adapter.whole.shape
        entries = adapter.chosen.flat().cpu()
        more = rank * (rows + columns) - len(entries)
        free = torch.ones(rows * columns, dtype=torch.bool)
        free[entries] = False
        entries = torch.cat([entries, free.nonzero()[:more, 0]])
        values = adapter.values.detach().cpu()
        return {
            _VALUES: torch.cat([values, values.new_zeros(more)]),
            _INDICES: torch.stack([entries // columns, entries % columns]).to(torch.int32),
        }

    def options(
        self, config: Mapping[str, Any], layers: dict[str, Tensors]
    ) -> tuple[dict[str, Any], dict[str, Tensors]]:
        del config
        return {"mask": GIVEN}, layers

    def shape(self, tensors: Tensors) -> tuple[int, int] | None:
        values, indices = tensors[_VALUES], tensors[_INDICES]
        if values.dim() != 1 or indices.shape != (2, len(values)) or not len(values):
            return None
        low, high = indices.amin(dim=1).tolist(), indices.amax(dim=1).tolist()
        return (int(high[0]) + 1, int(high[1]) + 1) if min(low) >= 0 else None

    def constructed(self, options: Mapping[str, Any]) -> dict[str, Any]:
        del options
        return {"mask": GIVEN}

    def fill(self, adapter: WeightAdapter, tensors: Tensors, entries: int | None) -> None:
        assert isinstance(adapter, ShiraAdapter)
        shape = adapter.whole.shape
        rows, columns = tensors[_INDICES][:, :entries].long()
        flat, values = rows * shape[1] + columns, tensors[_VALUES][:entries].float()
        adapter.assign(SparseDelta.of(flat, values, shape))


PEFT_FORMATS: dict[str, PeftFormat] = {"lora": _Lora(), "dora": _Dora(), "shira": _Shira()}
"""By our name of the kind."""


def foreign_format(config: Mapping[str, Any], source: str) -> str:
    """Our kind for a config that peft wrote; raises CheckpointError for a kind we do not have."""
    found = {"LORA": "dora" if config.get("use_dora") else "lora", "SHIRA": "shira"}
    kind = config.get("peft_type")
    if kind not in found:
        raise CheckpointError(
            f"{source}: peft_type {kind!r}; readable are LORA (with or without use_dora) and SHIRA "
            "of huggingface/peft, and what hwnas.adapters.save wrote; convert it to one of these"
        )
    return found[kind]


def _refuse_variants(config: Mapping[str, Any]) -> None:
    wrong = [name for name in _NOT_READ if config.get(name)]
    if config.get("bias", "none") != "none":
        wrong.append("bias")
    if str(config.get("init_lora_weights")).lower().startswith(_REPLACED_BASES):
        wrong.append("init_lora_weights (it changes the base weights)")
    if wrong:
        raise CheckpointError(
            f"the LoRA uses {', '.join(wrong)}, which cannot be read here; expected plain LoRA or "
            "DoRA, with or without rsLoRA and patterns: merge it with peft, or save it as plain"
        )


def _scaling(config: Mapping[str, Any], path: str, rank: int) -> float:
    alpha = config.get("lora_alpha", 8)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", path):
            alpha = value
            break
    return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _entries(adapter: WeightAdapter) -> int:
    assert isinstance(adapter, ShiraAdapter)
    return len(adapter.chosen)


def _block_diagonal(b: torch.Tensor, blocks: int) -> torch.Tensor:
    """The blocks of rows (blocks * rows, r) as a matrix (blocks * rows, blocks * r)."""
    wide = b.new_zeros(blocks, len(b) // blocks, blocks, b.shape[1])
    for i, block in enumerate(b.detach().chunk(blocks)):
        wide[i, :, i] = block
    return wide.view(len(b), -1)


def _number(value: float) -> int | float:
    return int(value) if float(value).is_integer() else value


def _copy(target: torch.Tensor, source: torch.Tensor, what: str) -> None:
    if target.shape != source.shape:
        raise CheckpointError(
            f"{what} is {tuple(source.shape)}, expected {tuple(target.shape)}; the file is damaged"
        )
    with torch.no_grad():
        target.copy_(source)
