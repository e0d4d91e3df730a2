"""Low-rank pairs: what they add, how they slice, and their public contract."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hwnas.adapters import MatrixSlice
from hwnas.adapters.kinds.lora import LoraAdapter
from hwnas.errors import ConfigError
from hwnas.testing.adapters import check_adapter

QKV, PLAIN = MatrixSlice(8, 12, 3), MatrixSlice(20, 12)


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _trained(whole: MatrixSlice, **options: Any) -> LoraAdapter:
    adapter = LoraAdapter(whole, rng=_rng(), **options)
    with torch.no_grad():
        adapter.B.normal_(generator=_rng(1))
    return adapter


@pytest.mark.parametrize("split", [False, True])
def test_contract(split: bool) -> None:
    assert check_adapter(LoraAdapter, rank=3, split_qkv=split) == []


def test_delta_is_the_scaled_product() -> None:
    adapter = _trained(PLAIN, rank=4, alpha=8)
    expected = 2 * adapter.B @ adapter.A
    torch.testing.assert_close(adapter.delta(PLAIN), expected)
    assert LoraAdapter(PLAIN, rng=_rng(), rank=4).gamma == 1


def test_columns_of_a_follow_the_input_and_rows_of_b_each_part_of_the_output() -> None:
    adapter = _trained(QKV, rank=2)
    rows = [part * 8 + row for part in range(3) for row in range(5)]
    found = adapter.delta(MatrixSlice(5, 7, 3))
    torch.testing.assert_close(found, adapter.B[rows] @ adapter.A[:, :7])


def test_split_qkv_equals_the_fused_pair_of_the_triple_rank() -> None:
    adapter = _trained(QKV, rank=2, split_qkv=True)
    assert adapter.A.shape == (6, 12)
    fused = torch.block_diag(*adapter.B.view(3, 8, 2)) @ adapter.A
    torch.testing.assert_close(adapter.delta(QKV), fused)
    assert torch.equal(_trained(PLAIN, rank=2, split_qkv=True).A, _trained(PLAIN, rank=2).A)


def test_a_rank_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="rank 0"):
        LoraAdapter(PLAIN, rng=_rng(), rank=0)
