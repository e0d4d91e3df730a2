"""The meter of what autograd keeps."""

from __future__ import annotations

import torch

from hwnas.supernet.training.saved_bytes import SavedBytes


def test_saved_bytes_count_each_memory_once_and_let_go() -> None:
    weight = torch.randn(4, 4, requires_grad=True)
    x = torch.randn(8, 4)
    with SavedBytes([weight]) as meter:
        y = torch.nn.functional.linear(x, weight)  # keeps x
        z = y * y  # keeps y, twice
        assert meter.peak == (32 + 32) * 4
        del y, z
        (x @ weight).exp()
    assert meter.peak == (32 + 32) * 4
    with SavedBytes() as other:
        kept = (x @ weight).exp()  # x, and its own result
        w = kept.sin()  # the same result
    assert other.peak == (32 + 32) * 4
    del w
