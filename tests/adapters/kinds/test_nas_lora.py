"""NAS-LoRA: the cell and its search."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from hwnas.adapters import MatrixSlice
from hwnas.adapters.kinds.nas_lora import NasLoraAdapter, NasPcLoraAdapter
from hwnas.adapters.kinds.nas_lora.operations import OP_SETS, OPERATIONS, AveragePool, Surroundings
from hwnas.errors import ConfigError
from hwnas.testing.adapters import check_adapter
from tests.adapters.kinds.searched_cells import WHOLE, images, made, rng

ONE = torch.ones(())


@pytest.mark.parametrize(
    "options",
    [
        {"op_set": "darts"},
        {"op_set": "token"},
        {"op_set": "token", "op_style": "darts"},
        {"op_style": "darts", "cell_nodes": 2},
        {"cell_nodes": 2, "pc_k": 2, "residual": True, "alpha_init": {"skip": 2.0}},
    ],
)
def test_contract(options: dict[str, Any]) -> None:
    assert check_adapter(NasLoraAdapter, **options) == []


@pytest.mark.parametrize("settle", ["anneal", "discretize", "fold_to"])
def test_contract_of_a_settled_one(settle: str) -> None:
    act: dict[str, Callable[[NasLoraAdapter], object]] = {
        "anneal": lambda a: a.anneal(1.0),
        "discretize": lambda a: a.discretize(),
        "fold_to": lambda a: a.fold_to("lsq"),
    }

    def kind(whole: MatrixSlice, *, rng: torch.Generator) -> NasLoraAdapter:
        adapter = NasLoraAdapter(whole, rng=rng)
        act[settle](adapter)
        return adapter

    assert check_adapter(kind) == []


# The cell


@pytest.mark.parametrize(
    ("op_set", "sizes"),
    [
        ("light", [0, 0, 0, 52, 116, 52, 16, 144]),
        ("darts", [0, 0, 0, 0, 104, 232, 52, 116]),
        ("token", [0, 0, 16, 4]),
    ],
)
def test_the_op_sets_have_these_parameters_at_rank_4(op_set: str, sizes: list[int]) -> None:
    edge = made(op_set=op_set).cell.edges[0]
    assert [sum(p.numel() for p in operation.parameters()) for operation in edge] == sizes


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_keep_the_shape(name: str) -> None:
    maps = torch.randn(2, 4, 5, 7, generator=rng())
    around = Surroundings(ONE, torch.ones(2, 1, 5, 7))
    assert OPERATIONS[name](4, rng())(maps, around).shape == maps.shape


def test_the_average_does_not_count_what_is_padded() -> None:
    maps, real = torch.randn(2, 3, 5, 5, generator=rng()), torch.ones(2, 1, 5, 5)
    pool = AveragePool()
    expected = functional.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False)
    torch.testing.assert_close(pool(maps, Surroundings(ONE, real)), expected)
    real[..., 4] = 0  # a window's padding is the same as the border
    found = pool(maps * real, Surroundings(ONE, real))
    expected = functional.avg_pool2d(maps[..., :4], 3, stride=1, padding=1, count_include_pad=False)
    torch.testing.assert_close(found[..., :4], expected)


@pytest.mark.parametrize("name", ["avg3", "max3"])
def test_padded_tokens_are_in_no_pool(name: str) -> None:
    adapter = made(op_set="darts", alpha_init={name: 50.0})
    with torch.no_grad():
        adapter.cell.alpha.copy_(torch.tensor([[50.0 * (n == name) for n in OP_SETS["darts"]]]))
    x = images(1, 4, 4).abs()
    padded = functional.pad(x, (0, 0, 0, 2, 0, 2))
    with torch.no_grad():
        adapter.A.copy_(-adapter.A.abs())  # negative z, so that a padded 0 would win
        whole, part = adapter.branch(padded, WHOLE), adapter.branch(x, WHOLE)
    torch.testing.assert_close(whole[:, :4, :4], part, rtol=1e-4, atol=1e-5)


def test_the_cell_is_the_sum_of_its_operations() -> None:
    adapter = made()
    z = images() @ adapter.A.t()
    maps = z.permute(0, 3, 1, 2)
    around = Surroundings(ONE, torch.ones_like(maps[:, :1]))
    p = adapter.cell.alpha[0].softmax(dim=0)
    c = sum(p[i] * op(maps, around) for i, op in enumerate(adapter.cell.edges[0]))
    assert isinstance(c, torch.Tensor)
    expected = 2 * c.permute(0, 2, 3, 1) @ adapter.B.t()  # alpha / rank is 8 / 4
    torch.testing.assert_close(adapter.branch(images(), WHOLE), expected)


def test_two_nodes_with_partial_channels_are_as_written() -> None:
    adapter = made(cell_nodes=2, pc_k=2, op_set="token")
    cell, maps = adapter.cell, torch.randn(3, 4, 2, 2, generator=rng(8))
    around = Surroundings(ONE, torch.ones(3, 1, 2, 2))

    def edge(e: int, x: torch.Tensor) -> torch.Tensor:
        p = cell.alpha[e].softmax(dim=0)
        a, b = sum(p[i] * op(x[:, :2], around) for i, op in enumerate(cell.edges[e])), x[:, 2:]
        assert isinstance(a, torch.Tensor)
        return torch.stack([a[:, 0], b[:, 0], a[:, 1], b[:, 1]], dim=1)  # shuffled, K = 2

    assert cell.beta is not None
    share = cell.beta.softmax(dim=0)
    expected = share[0] * edge(1, maps) + share[1] * edge(2, edge(0, maps))
    torch.testing.assert_close(cell(maps, around.real), expected)


def test_sequences_are_square_images() -> None:
    adapter = made()
    found = adapter.branch(images().flatten(1, 2), WHOLE)
    assert torch.equal(found, adapter.branch(images(), WHOLE).flatten(1, 2))
    for shape in ((2, 35), (7,)):
        with pytest.raises(ConfigError, match=r"expected \(B, H, W, C\), or \(B, L, C\) with L a"):
            adapter.branch(images(*shape), WHOLE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pc_k": 3}, "pc_k 3 does not divide the rank 4"),
        ({"op_set": "all"}, "op_set 'all': expected one of light, darts, token"),
        ({"op_style": "relu"}, "op_style 'relu'"),
        ({"cell_nodes": 4}, "cell_nodes 4: expected 1 or 2"),
        ({"alpha_init": {"conv7": 1.0}}, "alpha_init names conv7: op_set light has none, skip"),
        ({"rank": 0}, "rank 0"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NasLoraAdapter(WHOLE, rng=rng(), **options)


def test_the_pc_kind_is_the_same_class_with_half_the_channels() -> None:
    assert NasPcLoraAdapter(WHOLE, rng=rng()).cell.pc_k == 2
    assert NasPcLoraAdapter(WHOLE, rng=rng(), pc_k=4).cell.pc_k == 4
    with pytest.raises(ConfigError, match="pc_k 2 does not divide the rank 3"):
        NasPcLoraAdapter(WHOLE, rng=rng(), rank=3)


# The search


def loss_of(adapter: NasLoraAdapter) -> torch.Tensor:
    return (adapter.branch(images(), WHOLE) - 1).square().mean()


def test_alpha_cannot_move_before_b_has() -> None:
    adapter = NasLoraAdapter(WHOLE, rng=rng(), cell_nodes=2)
    loss_of(adapter).backward()
    still = {n for n, p in adapter.named_parameters() if p.grad is None or not p.grad.any()}
    assert still == {n for n, _ in adapter.named_parameters()} - {"B"}
    with torch.no_grad():
        adapter.B -= 0.1 * adapter.B.grad
    adapter.zero_grad()
    loss_of(adapter).backward()
    assert all(p.grad is not None and p.grad.any() for p in adapter.parameters())


def test_each_optimizer_moves_its_own_parameters_alone() -> None:
    adapter = made(cell_nodes=2)
    groups = adapter.trainable_groups()
    assert [id(p) for p in groups["arch"]] == [id(adapter.cell.alpha), id(adapter.cell.beta)]
    for name, parameters in groups.items():
        before = copy.deepcopy(adapter.state_dict())
        adapter.zero_grad()
        loss_of(adapter).backward()
        torch.optim.SGD(parameters, lr=0.1).step()
        after = adapter.state_dict()
        moved = {n for n in after if not torch.equal(before[n], after[n])}
        arch = {"cell.alpha", "cell.beta"}
        trained = {n for n, _ in adapter.named_parameters()}
        assert moved == (arch if name == "arch" else trained - arch)


def test_temperature_decides_and_entropy_shows_it() -> None:
    adapter = NasLoraAdapter(WHOLE, rng=rng())
    assert float(adapter.cell.entropy()) == pytest.approx(1, abs=1e-4)
    adapter = made()
    before = float(adapter.cell.entropy())
    adapter.set_temperature(0.3)
    assert float(adapter.cell.entropy()) < before - 0.1
    with pytest.raises(ConfigError, match="temperature 0"):
        adapter.set_temperature(0)


def test_discretizing_keeps_the_strongest_operation_but_none() -> None:
    adapter = made(cell_nodes=2)
    with torch.no_grad():
        adapter.cell.alpha[:, 0] = 9.0  # none is not chosen, as in DARTS
        adapter.cell.alpha[0, 7], adapter.cell.alpha[1, 4] = 5.0, 5.0
        adapter.cell.alpha[2, 3] = 5.0
    before = adapter.cell.weights().detach()
    assert adapter.discretize() == ["conv3", "dwsep5", "dwsep3"]
    torch.testing.assert_close(adapter.cell.weights()[0, 7], before[0, 7])
    assert int((adapter.cell.weights() > 0).sum()) == 3
    assert set(adapter.trainable_groups()) == {"weights"}
    assert len(adapter.trainable_groups()["weights"]) == 2 + 1 + 2 + 2  # A, B and three kernels
    adapter.discretize(keep_strength=False)
    assert adapter.cell.weights().max() == 1


def test_discretizing_changes_the_output_by_the_dropped_operations_alone() -> None:
    adapter = made(alpha_init={})
    with torch.no_grad():
        adapter.cell.alpha[0, 7] = 12.0
    before = adapter.branch(images(), WHOLE)
    adapter.discretize()
    torch.testing.assert_close(adapter.branch(images(), WHOLE), before, rtol=1e-2, atol=1e-2)
