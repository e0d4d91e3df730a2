"""FouRA: transforms of factors, gates over ranks, and what folds."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from scipy.fft import dct
from torch import nn

from hwnas.adapters import MatrixSlice, NotFoldable, attach, build_adapters, merge
from hwnas.adapters.delta_statistics import delta_spread
from hwnas.adapters.kinds.foura import FouraAdapter, freeze_gates
from hwnas.adapters.kinds.lora import LoraAdapter
from hwnas.adapters.kinds.rank_gates import TokenEntropyGate
from hwnas.adapters.kinds.spectral import dct_matrix
from hwnas.adapters.kinds.token_maps import ImageGrid, whole_images, windowed
from hwnas.errors import ConfigError
from hwnas.testing.adapters import check_adapter

QKV, PLAIN = MatrixSlice(16, 24, 3), MatrixSlice(20, 32)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(whole: MatrixSlice = QKV, seed: int = 0, **options: Any) -> FouraAdapter:
    """A FouRA adapter all of whose parameters have moved."""
    adapter = FouraAdapter(whole, rng=rng(seed), rank=4, **options)
    with torch.no_grad():
        for p in adapter.parameters():
            p.add_(torch.randn(p.shape, generator=rng(seed + 1)), alpha=0.5)
    return adapter


def images(*leading: int, whole: MatrixSlice = QKV, seed: int = 5) -> torch.Tensor:
    return torch.randn(*(leading or (3, 4, 4)), whole.inp, generator=rng(seed))


@pytest.mark.parametrize("transform", ["dct", "rfft", "dft_real", "none"])
@pytest.mark.parametrize("gate", ["none", "static", "token_entropy_mlp"])
@pytest.mark.parametrize("split", [True, False])
def test_contract(transform: str, gate: str, split: bool) -> None:
    assert check_adapter(FouraAdapter, transform=transform, gate=gate, split_qkv=split) == []


# Transforms


@pytest.mark.parametrize("n", [1, 5, 48, 768])
def test_the_cosine_transform_is_orthonormal(n: int) -> None:
    c = dct_matrix(n)
    product = c.double() @ c.double().t()
    torch.testing.assert_close(product, torch.eye(n).double(), rtol=0, atol=1e-6)
    x = torch.randn(n, generator=rng())
    expected = torch.from_numpy(dct(x.double().numpy(), norm="ortho")).float()
    torch.testing.assert_close(c @ x, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("split", [True, False])
def test_without_a_gate_it_is_lora_in_rotated_coordinates(split: bool) -> None:
    adapter = made(gate="none", split_qkv=split)
    lora = LoraAdapter(QKV, rng=rng(), rank=4, alpha=16.0, split_qkv=split)
    with torch.no_grad():
        lora.A.copy_((adapter.A @ dct_matrix(24)).flatten(0, 1))
        lora.B.copy_((dct_matrix(16).t() @ adapter.B.transpose(1, 2)).flatten(0, 1))
    torch.testing.assert_close(adapter.delta(QKV), lora.delta(QKV))


@pytest.mark.parametrize("transform", ["dct", "rfft", "dft_real", "none"])
@pytest.mark.parametrize("gate", ["none", "static"])
def test_as_lora_has_the_same_delta(transform: str, gate: str) -> None:
    adapter = made(gate=gate, transform=transform)
    lora = adapter.as_lora()
    torch.testing.assert_close(lora.delta(QKV), adapter.delta(QKV), rtol=1e-4, atol=1e-5)
    assert lora.rank == (4 if transform in ("dct", "none") else 8)


def direct(adapter: FouraAdapter, transform: str, x: torch.Tensor) -> torch.Tensor:
    """F⁻¹ B A F x on activations, as the paper writes it, for a plain matrix."""
    (a,), (b,) = adapter.A, adapter.B
    if transform == "dct":
        return x @ dct_matrix(32).t() @ a.t() @ b @ dct_matrix(20)
    if transform == "rfft":
        z = torch.fft.rfft(x, norm="ortho") @ torch.view_as_complex(a).t()
        return torch.fft.irfft(z @ torch.view_as_complex(b), n=20, norm="ortho")
    z = torch.fft.fft(x, norm="ortho") @ a.t().to(torch.complex64)
    return torch.fft.ifft(z @ b.to(torch.complex64), norm="ortho").real


@pytest.mark.parametrize("transform", ["dct", "rfft", "dft_real"])
def test_the_factors_do_what_the_transform_of_activations_does(transform: str) -> None:
    adapter = made(PLAIN, gate="none", transform=transform)
    x = images(7, whole=PLAIN)
    expected = direct(adapter, transform, x) * 4  # alpha / rank is 16 / 4
    torch.testing.assert_close(x @ adapter.delta(PLAIN).t(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("transform", "rank"), [("dct", 4), ("none", 4), ("rfft", 8), ("dft_real", 8)]
)
def test_ranks(transform: str, rank: int) -> None:
    adapter = made(PLAIN, gate="none", transform=transform)
    assert delta_spread(adapter.delta(PLAIN)).rank == rank


def test_the_real_part_drops_much_of_a_complex_output() -> None:
    adapter = made(PLAIN, transform="dft_real", gate="none")
    (a,), (b,) = adapter.A.to(torch.complex64), adapter.B.to(torch.complex64)
    x = images(64, whole=PLAIN)
    y = torch.fft.ifft(torch.fft.fft(x, norm="ortho") @ a.t() @ b, norm="ortho")
    assert 0.6 < float((y.imag.norm() / y.abs().norm()).detach()) < 0.8


def test_q_k_and_v_do_not_meet() -> None:
    """What q learns moves rows of q alone; one transform over all rows would smear it."""
    adapter = made()
    before = adapter.branch(images(), QKV).detach()
    adapter.branch(images(), QKV)[..., 16:32].square().sum().backward()
    for name, p in adapter.named_parameters():
        assert p.grad is not None
        reached = p.grad.flatten(1).abs().amax(dim=1) > 0
        assert reached.tolist() == [False, True, False], name
    with torch.no_grad():
        for p in adapter.parameters():
            p[0] += 0.3
    change = (adapter.branch(images(), QKV) - before).abs().detach()
    assert change[..., :16].max() > 0.01
    assert change[..., 16:].max() < 1e-5


# Gates


def test_gates_start_open_and_are_soft_until_hardened() -> None:
    adapter = FouraAdapter(QKV, rng=rng(), gate="static")
    logit = torch.tensor(2.0)
    torch.testing.assert_close(adapter._scaled(adapter.A), adapter.A * logit.sigmoid())
    adapter.harden()
    torch.testing.assert_close(adapter._scaled(adapter.A), adapter.A)
    live = made()
    with torch.no_grad():
        soft = live.branch(images(), QKV)
        assert not torch.allclose(live.eval().branch(images(), QKV), soft)
        live.train().harden()
        hard = live.branch(images(), QKV)
        assert torch.equal(live.eval().branch(images(), QKV), hard)


def test_a_hard_gate_still_learns() -> None:
    adapter = made()
    adapter.harden()
    adapter.branch(images(), QKV).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in adapter.parameters())


def test_the_gate_counts_how_evenly_tokens_use_a_rank() -> None:
    gate = TokenEntropyGate(1, 2, rng())
    with torch.no_grad():
        gate.first.zero_()
        gate.first[0, 0, 0] = gate.first[0, 1, 1] = 1.0  # the entropies alone
        gate.second.copy_(torch.eye(2))
        gate.bias.zero_()
    sizes = torch.ones(1, 16, 1, 2)
    sizes[..., 1] = 0.0
    sizes[:, 0, :, 1] = 40.0  # all of the second rank in one token
    even, peaked = gate(sizes, torch.ones(1, 16, dtype=torch.bool))[0, 0].tolist()
    assert even == pytest.approx(float(torch.sigmoid(nn.functional.gelu(torch.ones(())))))
    assert peaked == pytest.approx(0.5, abs=1e-3)


def test_padding_does_not_move_a_gate() -> None:
    adapter = made().eval()
    x = images(2, 4, 4)
    padded = nn.functional.pad(x, (0, 0, 0, 3, 0, 3))
    adapter.train()
    with torch.no_grad():
        found = adapter.branch(padded, QKV)[:, :4, :4]
    torch.testing.assert_close(found, adapter.branch(x, QKV).detach(), rtol=1e-4, atol=1e-5)


def test_windows_of_an_image_share_their_gates() -> None:
    adapter, x = made(), images(3, 8, 8)
    with torch.no_grad():
        whole = windowed(adapter.branch(x, QKV), 4, 4)
        apart = adapter.branch(windowed(x, 4, 4), QKV)
        assert not torch.allclose(apart, whole, rtol=1e-3)
        adapter.grid = ImageGrid(3, 8, 8)
        torch.testing.assert_close(
            adapter.branch(windowed(x, 4, 4), QKV), whole, rtol=1e-4, atol=1e-5
        )
        adapter.grid = ImageGrid(5, 8, 8)
        with pytest.raises(ConfigError, match="12 entries does not divide into 5 images"):
            adapter.branch(windowed(x, 4, 4), QKV)


def test_blocks_say_how_many_images_there_are() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(24, 48)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.qkv(windowed(x, 4, 4))
            return found

    attached = attach(nn.Sequential(Block()), "foura", targets=r"0\.qkv", rank=4)
    adapter = attached.adapters("default")["0.qkv"]
    assert isinstance(adapter, FouraAdapter)
    for p in adapter.parameters():
        p.data.add_(torch.randn(p.shape, generator=rng(3)), alpha=0.5)
    x = images(3, 8, 8)
    with torch.no_grad():
        apart = attached.model(x)
        adapter.grid = ImageGrid(3, 8, 8)
        together = attached.model(x)
        adapter.grid = None
        handles = whole_images(attached.model.children())
        assert torch.equal(attached.model(x), together)
        assert adapter.grid is None
        for handle in handles:
            handle.remove()
        assert torch.equal(attached.model(x), apart)
        assert not torch.allclose(apart, together, rtol=1e-3)


def test_the_auxiliary_loss_closes_gates_and_is_told_once() -> None:
    adapter = made(lambda_rank=0.1)
    assert adapter.auxiliary_loss() is None
    adapter.branch(images(), QKV)
    loss = adapter.auxiliary_loss()
    assert loss is not None
    assert 0 < float(loss.detach()) < 0.1
    loss.backward()
    assert isinstance(adapter.gate, TokenEntropyGate)
    assert (adapter.gate.bias.grad > 0).all()
    assert adapter.auxiliary_loss() is None
    adapter.branch(images(), QKV)
    copy.deepcopy(adapter)  # what is pending has a graph, and graphs cannot be copied
    adapter.eval().branch(images(), QKV)
    static = made(gate="static", lambda_rank=0.1)
    assert static.auxiliary_loss() is not None
    assert static.eval().auxiliary_loss() is None
    assert made(gate="none").auxiliary_loss() is None


def test_groups() -> None:
    adapter = made()
    groups = adapter.trainable_groups()
    assert set(groups) == {"weights", "gate"}
    assert [id(p) for p in groups["weights"]] == [id(adapter.A), id(adapter.B)]
    assert set(made(gate="none").trainable_groups()) == {"weights"}


# Freezing and folding


def test_a_live_gate_is_not_folded() -> None:
    adapter = made()
    assert adapter.role == "branch"
    for ask in (adapter.fold, adapter.as_lora, lambda: adapter.delta(QKV)):
        with pytest.raises(NotFoldable, match=r"gate reads x.*freeze_gates"):
            ask()
    with pytest.raises(ConfigError, match="has seen no images"):
        adapter.freeze_gates()


@pytest.mark.parametrize("gate", ["static", "token_entropy_mlp"])
@pytest.mark.parametrize("transform", ["dct", "rfft"])
def test_frozen_gates_fold_exactly(gate: str, transform: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 24))
    attached = attach(model, "foura", targets="0|2", gate=gate, transform=transform, rank=4)
    for p in (p for a in attached.adapters("default").values() for p in a.parameters()):
        p.data.add_(torch.randn(p.shape, generator=rng(3)), alpha=0.3)
    if gate != "static":
        with pytest.raises(NotFoldable):
            merge(attached)
    kept = freeze_gates(attached.adapters("default"), lambda: attached.model(images()), keep=3)
    assert kept == {"0": [3], "2": [3]}
    assert all(a.role == "additive" and a.training for a in attached.adapters("default").values())
    with torch.no_grad():
        own = attached.model(images())
        assert (own - merge(copy.deepcopy(attached))(images())).abs().max() < 1e-5
    adapter = attached.adapters("default")["0"]
    ranks = delta_spread(adapter.fold()).rank
    assert ranks == (3 if transform == "dct" else 6)
    assert set(adapter.trainable_groups()) == {"weights"}
    with pytest.raises(ConfigError, match="no gate is left to freeze"):
        adapter.freeze_gates()  # type: ignore[operator]


def test_ranks_that_are_open_for_half_of_the_images_stay() -> None:
    adapter = made(PLAIN).eval()
    gates = []
    freeze = images(8, 4, 4, whole=PLAIN)
    adapter.watched = []
    adapter.branch(freeze, PLAIN)
    gates = torch.cat(adapter.watched).mean(dim=0)
    kept = freeze_gates({"a": adapter}, lambda: adapter.branch(freeze, PLAIN))
    assert kept["a"] == [int((gates >= 0.5).sum())]
    assert torch.equal(adapter.mask, (gates >= 0.5).float())


def test_a_state_dict_tells_whether_the_gates_are_frozen() -> None:
    adapter = made(gate="token_entropy_mlp")
    freeze_gates({"a": adapter}, lambda: adapter.branch(images(), QKV), keep=2)
    other = FouraAdapter(QKV, rng=rng(9), rank=4)
    assert other.role == "branch"
    other.load_state_dict(adapter.state_dict())
    assert other.role == "additive"
    assert torch.equal(other.delta(QKV), adapter.delta(QKV))


def test_a_static_gate_goes_into_a_quantizer() -> None:
    layers = {"blocks.0.qkv": MatrixSlice(6, 6, 3)}
    bank = build_adapters(layers, rng=rng(), kind="foura", layout="shared", gate="static")
    assert bank.delta("blocks.0.qkv", 4, 8, MatrixSlice(4, 5, 3)) is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank 0"),
        ({"transform": "dst"}, "transform 'dst': expected one of dct, rfft, dft_real, none"),
        ({"gate": "live"}, "gate 'live': expected one of none, static, token_entropy_mlp"),
        ({"gate_scope": "token"}, "gate_scope 'token': expected one of image, batch"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FouraAdapter(QKV, rng=rng(), **options)
