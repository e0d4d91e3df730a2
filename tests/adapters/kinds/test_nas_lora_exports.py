"""NAS-LoRA: four exports, and what each of them loses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from hwnas.adapters import MatrixSlice, NotFoldable, attach, build_adapters, merge
from hwnas.adapters.kinds.nas_lora import (
    NasLoraAdapter,
    cells,
    fold_cells,
    fold_residuals,
    recorded,
)
from hwnas.errors import ConfigError, PluginError
from tests.adapters.kinds.searched_cells import WHOLE, images, made, rng


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("residual", [False, True])
def test_token_operations_fold_exactly(k: int, nodes: int, residual: bool) -> None:
    adapter = made(op_set="token", pc_k=k, cell_nodes=nodes, residual=residual)
    assert adapter.role == "additive"
    found = adapter.branch(images(), WHOLE)
    torch.testing.assert_close(images() @ adapter.fold().t(), found, rtol=1e-4, atol=1e-5)
    lora = adapter.as_lora()
    torch.testing.assert_close(lora.delta(WHOLE), adapter.fold(), rtol=1e-4, atol=1e-5)


def test_an_impulse_reaches_other_tokens() -> None:
    """One token is changed; a weight would change one token of the output."""

    def reached(adapter: NasLoraAdapter) -> int:
        x = images(1, 7, 7)
        moved = x.clone()
        moved[0, 3, 3] += 1
        with torch.no_grad():
            change = adapter.branch(moved, WHOLE) - adapter.branch(x, WHOLE)
        return int((change.abs().amax(dim=-1) > 1e-5).sum())

    assert reached(made()) == 25  # 5 x 5: dwsep5, and 3 x 3 with dilation 2
    conv3 = made()
    with torch.no_grad():
        conv3.cell.alpha[0, 7] = 50.0
    conv3.discretize()
    assert reached(conv3) == 9
    assert reached(made(op_set="token")) == 1
    conv3.anneal(1.0)
    assert reached(conv3) == 1


def test_annealing_ends_in_a_weight() -> None:
    adapter = made(cell_nodes=2, pc_k=2)
    losses = []
    for t in (0.0, 0.5, 0.9):
        adapter.anneal(t)
        with pytest.raises(
            NotFoldable, match=r"the best one would lose .* on white noise"
        ) as found:
            adapter.fold()
        losses.append(found.value.residual)
        assert adapter.role == "branch"
    assert losses[0] > losses[1] > losses[2] > 0
    adapter.anneal(1.0)
    assert adapter.role == "additive"
    found_last = adapter.branch(images(), WHOLE)
    torch.testing.assert_close(images() @ adapter.fold().t(), found_last, rtol=1e-4, atol=1e-5)
    adapter.anneal(0.5)
    assert adapter.role == "branch"


@pytest.mark.parametrize("options", [{"op_set": "darts"}, {"op_style": "darts"}])
def test_what_cannot_be_annealed_says_so(options: dict[str, Any]) -> None:
    adapter = made(**options)
    with pytest.raises(ConfigError, match=r"max-pool and the `darts` style .* cannot be annealed"):
        adapter.anneal(0.5)
    with pytest.raises(ConfigError, match=r"t = 1\.5"):
        made().anneal(1.5)


def smooth_images(exponent: float, n: int = 16, side: int = 14) -> torch.Tensor:
    """Fields with an amplitude spectrum of f^-exponent/2, (n, side, side, I)."""
    noise = torch.randn(n, WHOLE.inp, side, side, generator=rng(9))
    f = torch.fft.fftfreq(side).square()
    radius = (f[:, None] + f[None, :]).sqrt().clamp(min=1 / side)
    field = torch.fft.ifft2(torch.fft.fft2(noise) * radius.pow(-exponent / 2)).real
    return field.permute(0, 2, 3, 1)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_least_squares_lose_least_and_the_residual_is_what_it_says(exponent: float) -> None:
    adapter, x = made(), smooth_images(exponent)
    found = fold_residuals({"l": adapter}, lambda: adapter.branch(x, WHOLE))["l"]
    assert found["branch"] == 0
    assert 0.05 < found["lsq"] <= min(found["anneal"], found["token"])
    with torch.no_grad():
        z = x @ adapter.A.t()
        c = torch.linalg.lstsq(
            adapter.B, (adapter.branch(x, WHOLE) / 2).reshape(-1, WHOLE.out).t()
        ).solution.t()
        z = z.reshape(-1, 4)
        best = torch.linalg.lstsq(z, c).solution
        expected = float((c - z @ best).norm() / c.norm())
    assert found["lsq"] == pytest.approx(expected, rel=1e-3)
    assert adapter.role == "branch"


def test_a_fresh_cell_loses_half_of_what_it_gives() -> None:
    """Residuals of the specification's own check: 0.62 to 0.45 on fields from white to smooth."""
    for exponent, expected in ((0.0, 0.56), (1.0, 0.52), (2.0, 0.43)):
        x, lost = smooth_images(exponent), []
        for seed in range(4):
            adapter = NasLoraAdapter(WHOLE, rng=rng(seed))
            with recorded({"l": adapter}):
                adapter.branch(x, WHOLE)
            assert adapter.moments is not None
            lost.append(adapter.moments.residual(adapter.mixing("lsq")))
        assert sum(lost) / 4 == pytest.approx(expected, abs=0.06)


def test_on_white_noise_a_3x3_kernel_loses_all_but_its_centre() -> None:
    adapter = made()
    with torch.no_grad():
        adapter.cell.alpha[0, 7] = 50.0
    adapter.discretize()
    x = images(2, 48, 48)
    found = fold_residuals({"l": adapter}, lambda: adapter.branch(x, WHOLE))["l"]
    (kernel,) = (p.detach() for p in adapter.cell.edges[0][7].parameters())
    z = (x @ adapter.A.t()).detach().reshape(-1, 4)
    energy = torch.einsum("oiyx,ij,ojyx->yx", kernel, z.t() @ z / len(z), kernel)
    expected = float((1 - energy[1, 1] / energy.sum()).sqrt())
    assert expected > 0.85
    assert found["lsq"] == pytest.approx(expected, rel=0.02)
    assert found["anneal"] == pytest.approx(expected, rel=0.02)


def test_exact_folds_have_no_residual() -> None:
    adapter = made()
    adapter.anneal(1.0)
    found = fold_residuals({"l": adapter}, lambda: adapter.branch(images(), WHOLE))["l"]
    assert found["anneal"] < 1e-6
    assert found["lsq"] < 1e-5
    assert found["token"] > 0.01  # the kernels are left out, centres and all


class Layers(nn.Module):
    """Two layers, one of them fused."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(24, 48), nn.Linear(48, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(self.qkv(x).tanh())


@pytest.mark.parametrize("mode", ["anneal", "token", "lsq"])
def test_a_folded_model_merges_into_what_it_computes(mode: str) -> None:
    torch.manual_seed(0)
    attached = attach(Layers(), "nas_lora", targets="qkv|proj")
    for cell in cells(attached.adapters("default")).values():
        with torch.no_grad():
            cell.B.normal_(0, 0.1, generator=rng(3))
    with torch.no_grad():
        before = attached.model(images())
    with pytest.raises(NotFoldable) as refused:
        merge(attached)
    assert 0 < (refused.value.residual or 0) < 1
    assert attached.active == ("default",)

    lost = fold_cells(attached.adapters("default"), lambda: attached.model(images()), mode=mode)
    assert set(lost) == {"qkv", "proj"}
    assert all(0 < value < 1 for value in lost.values())
    with torch.no_grad():
        own = attached.model(images())
        assert (own - before).abs().max() > 1e-3  # approximate, and said so
        torch.testing.assert_close(merge(attached)(images()), own, rtol=1e-4, atol=1e-5)


def test_folding_asks_for_something_to_fold() -> None:
    token = {"l": made(op_set="token")}
    with pytest.raises(ConfigError, match="no NAS-LoRA cell is left to fold"):
        fold_cells(token, lambda: None)
    with pytest.raises(ConfigError, match="mode 'sum': expected one of anneal, token, lsq"):
        fold_cells(token, lambda: None, mode="sum")
    curved = {"l": made(op_style="darts")}
    with pytest.raises(ConfigError, match="not linear has no 'anneal' fold"):
        fold_cells(curved, lambda: None, mode="anneal")


@pytest.mark.parametrize("act", ["anneal", "discretize", "fold_to"])
def test_a_state_dict_tells_what_the_adapter_is(act: str) -> None:
    adapter = made()
    if act == "anneal":
        adapter.anneal(1.0)
    elif act == "discretize":
        adapter.discretize()
    else:
        adapter.fold_to("lsq")
    other = NasLoraAdapter(WHOLE, rng=rng(77))
    nn.ModuleDict({"a": other}).load_state_dict(nn.ModuleDict({"a": adapter}).state_dict())
    assert other.role == adapter.role
    assert torch.equal(other.branch(images(), WHOLE), adapter.branch(images(), WHOLE))
    assert {n: len(p) for n, p in other.trainable_groups().items()} == {
        n: len(p) for n, p in adapter.trainable_groups().items()
    }


def test_the_whole_life_of_a_cell() -> None:
    """Warm-up, turns, annealing, merge: on a target that a 3 x 3 mean helps to reach."""
    torch.manual_seed(0)
    attached = attach(Layers(), "nas_lora", targets="qkv", rank=4)
    x = images(4, 6, 6)
    goal = functional.avg_pool2d(x.permute(0, 3, 1, 2), 3, 1, 1).permute(0, 2, 3, 1)
    (cell,) = cells(attached.adapters("default")).values()
    groups = cell.trainable_groups()
    weights = torch.optim.AdamW(groups["weights"], lr=1e-2)
    arch = torch.optim.Adam(groups["arch"], lr=3e-2, betas=(0.5, 0.999))

    def step(optimizer: torch.optim.Optimizer) -> float:
        optimizer.zero_grad()
        loss = (attached.model(x) - goal).square().mean()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    first = step(weights)
    for i in range(60):
        if 18 <= i < 45:
            step(arch)
        if i >= 45:
            cell.anneal((i - 44) / 15)
        last = step(weights)
    assert last < 0.9 * first
    assert cell.role == "additive"
    with torch.no_grad():
        own = attached.model(x)
        torch.testing.assert_close(merge(attached)(x), own, rtol=1e-4, atol=1e-5)


def test_only_a_weight_goes_into_a_quantizer() -> None:
    layers = {"blocks.0.qkv": MatrixSlice(6, 6, 3)}
    bank = build_adapters(layers, rng=rng(), kind="nas_lora", layout="shared", op_set="token")
    assert bank.delta("blocks.0.qkv", 4, 8, MatrixSlice(4, 5, 3)) is not None
    with pytest.raises(PluginError, match=r"role 'branch'; expected .* additive or transform"):
        build_adapters(layers, rng=rng(), kind="nas_lora", layout="shared")
