"""FouRA: low-rank adapters in the frequency domain of the features, with a gate over the ranks.

Borse et al., "FouRA: Fourier Low-Rank Adaptation" (2024): z_out = W z_in + F⁻¹ B G A F z_in. Known
to us from summaries; gate, ranks and rates are ours. The transform is taken of the factors, never
of activations: B' = C_outᵀ B and A' = A C_in, so that FouRA without a gate is LoRA in rotated
coordinates, the same set of deltas (`as_lora`), and differs by what Adam makes of its
coordinates. q, k and v of a fused layer are three outputs with a transform each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn import functional

from hwnas.adapters.contract import MatrixSlice, NotFoldable, Role, WeightAdapter
from hwnas.adapters.kinds.latest_loss import LatestLoss
from hwnas.adapters.kinds.lora import LoraAdapter
from hwnas.adapters.kinds.rank_gates import GATES
from hwnas.adapters.kinds.spectral import TRANSFORMS
from hwnas.adapters.kinds.token_maps import ImageGrid
from hwnas.errors import ConfigError

__all__ = ["GATE_SCOPES", "FouraAdapter", "freeze_gates"]

GATE_SCOPES = ("image", "batch")


class FouraAdapter(WeightAdapter):
    """Adds (alpha / rank) B' diag(g) A', the factors of a transform (`spectral.py`).

    Args:
        whole: Shape of the matrix.
        rng: Draws A, Kaiming-uniform in its domain, and the gate.
        rank: Of each pair.
        alpha: Strength; the output is multiplied by alpha / rank.
        transform: `dct`, `rfft`, `dft_real`, or `none` for LoRA.
        gate: `none`, `static`, or `token_entropy_mlp`, which reads x.
        split_qkv: A pair, and a gate, for each of q, k and v; else they share A and the gate.
        gate_scope: Whether a live gate looks at an `image` (each entry of the first dimension,
            unless `whole_images` tells which of them are one image) or at the whole `batch`.
        lambda_rank: Factor of the mean gate in the auxiliary loss.

    Additive, but for a gate that reads x: that is a branch until it is frozen (`freeze_gates`).
    Gates are soft in training until `harden`, then 0 or 1 with straight-through gradients; a live
    gate is 0 or 1 in evaluation.
    """

    role: Role = "branch"
    has_product = True
    mask: torch.Tensor
    frozen: torch.Tensor
    hard: torch.Tensor

    def __init__(  # noqa: PLR0913 - the options of the kind
        self, whole: MatrixSlice, *, rng: torch.Generator, rank: int = 8, alpha: float = 16.0,
        transform: str = "dct", gate: str = "token_entropy_mlp", split_qkv: bool = True,
        gate_scope: str = "image", lambda_rank: float = 1e-3,
    ) -> None:  # fmt: skip
        super().__init__(whole)
        _require(rank, transform, gate, gate_scope)
        self.rank, self.gamma, self.lambda_rank = rank, alpha / rank, lambda_rank
        self.pairs = whole.parts if split_qkv else 1
        self.spectrum, self.gate_scope = TRANSFORMS[transform], gate_scope
        inner = self.spectrum.lengths(whole.inp)
        drawn = torch.rand(self.pairs, rank, *inner, generator=rng) * 2 - 1
        self.A = nn.Parameter(drawn / math.sqrt(whole.inp))  # Kaiming-uniform with a = sqrt(5)
        self.B = nn.Parameter(torch.zeros(whole.parts, rank, *self.spectrum.lengths(whole.out)))
        made = GATES[gate]
        self.gate = None if made is None else made(self.pairs, rank, rng)
        self.register_buffer("mask", torch.ones(self.pairs, rank))
        self.register_buffer("frozen", torch.zeros(()))
        self.register_buffer("hard", torch.zeros(()))
        self.grid: ImageGrid | None = None
        self.watched: list[torch.Tensor] | None = None
        self._mean_gate = LatestLoss()
        self.register_load_state_dict_post_hook(_settle)  # type: ignore[no-untyped-call]
        self.settle()

    def settle(self) -> None:
        """Read off the buffers what the adapter is now; loading a state dict does it as well."""
        self._frozen, self._hard = bool(self.frozen), bool(self.hard)
        if self._frozen and self.gate is not None:
            self.gate.requires_grad_(False)
        live = self.gate is not None and self.gate.live and not self._frozen
        self.role = "branch" if live else "additive"

    def delta(self, part: MatrixSlice) -> torch.Tensor:
        """(alpha / rank) B' diag(g) A' of the active rows and columns."""
        if self.role == "branch":
            raise self._not_foldable()
        rows, columns = self._factors(part)
        found = columns.transpose(1, 2) @ (self._scaled(rows))
        return found.reshape(part.shape) * self.gamma

    def product(self, x: torch.Tensor, part: MatrixSlice) -> torch.Tensor:
        """By way of the ranks: (..., I) to (..., O)."""
        rows, columns = self._factors(part)
        return self._raised(functional.linear(x, self._scaled(rows).flatten(0, 1)), columns)

    def branch(self, x: torch.Tensor, part: MatrixSlice) -> torch.Tensor:
        """The product with the gates that x opens; images are the first dimension of x."""
        if self.role == "additive":
            return self.product(x, part)
        rows, columns = self._factors(part)
        z = functional.linear(x, rows.flatten(0, 1))  # (..., pairs * R)
        groups = self._groups(x)
        tokens = z.reshape(groups, -1, self.pairs, self.spectrum.pieces, self.rank)
        gates = self._live(tokens)[:, None, :, None]
        return self._raised((tokens * gates).reshape(z.shape), columns)

    def fold(self) -> torch.Tensor:
        """The delta (O, I) of an adapter without a gate, or with one that does not read x.

        Raises:
            NotFoldable: its gate reads x.
        """
        return self.delta(self.whole)

    def harden(self, on: bool = True) -> None:
        """From now on train with gates of 0 and 1, the gradient passing straight through."""
        self.hard.fill_(float(on))
        self.settle()

    @torch.no_grad()
    def freeze_gates(self, keep: int | None = None) -> list[int]:
        """Fix gates at 0 or 1, after which the adapter is additive; how many stay of each pair.

        Those stay that were open for at least half of the images while `watched` was a list, or
        the `keep` ranks that were open most often. A static gate is judged by its own factors.

        Raises:
            ConfigError: there is no gate, or a live one that has seen nothing yet.
        """
        if self.gate is None or self._frozen:
            raise ConfigError("no gate is left to freeze; merge the adapter as it is")
        if not self.gate.live:
            found = self._static_gates(self.gate)
        elif self.watched:
            found = torch.cat(self.watched).mean(dim=0)
        else:
            raise ConfigError(
                "this gate has seen no images, and cannot be frozen at what it does with them; "
                "use hwnas.adapters.kinds.foura.freeze_gates(adapters, run)"
            )
        if keep is None:
            mask = found >= 0.5
        else:
            mask = torch.zeros_like(found, dtype=torch.bool)
            mask.scatter_(1, found.topk(min(keep, self.rank), dim=1).indices, True)
        self.mask.copy_(mask)
        self.frozen.fill_(1)
        self.watched = None
        self.settle()
        return [int(n) for n in mask.sum(dim=1)]

    def as_lora(self) -> LoraAdapter:
        """The LoRA pair with the same delta: A C_in, and C_outᵀ B with the gate in it.

        `rfft` and `dft_real` need twice the rank.

        Raises:
            NotFoldable: the gate reads x.
        """
        if self.role == "branch":
            raise self._not_foldable()
        rows, columns = self._factors(self.whole)
        rank = rows.shape[1]
        pair = LoraAdapter(
            self.whole, rng=torch.Generator().manual_seed(0), rank=rank, alpha=self.gamma * rank,
            split_qkv=self.pairs > 1,
        ).to(self.A.device)  # fmt: skip
        with torch.no_grad():
            pair.A.copy_(self._scaled(rows).flatten(0, 1))
            pair.B.copy_(columns.transpose(1, 2).flatten(0, 1))
        return pair

    def auxiliary_loss(self) -> torch.Tensor | None:
        """lambda_rank times the mean gate, which closes ranks that are not worth it."""
        if self.gate is None or self._frozen or not self.training:
            return None
        if self.gate.live:
            return self._mean_gate.take()
        mean = self._static_gates(self.gate).mean()
        return self.lambda_rank * mean

    def trainable_groups(self) -> dict[str, list[nn.Parameter]]:
        """`weights`: the factors; `gate`: whatever the gate learns."""
        gate = [] if self.gate is None else list(self.gate.parameters())
        groups = {"weights": [self.A, self.B], "gate": gate}
        trained = {n: [p for p in found if p.requires_grad] for n, found in groups.items()}
        return {name: found for name, found in trained.items() if found}

    def _factors(self, part: MatrixSlice) -> tuple[torch.Tensor, torch.Tensor]:
        """A' (pairs, R, I) and B'ᵀ (parts, R, O) of a slice."""
        rows = self.spectrum.rows(self.A, self.whole.inp)[..., : part.inp]
        return rows, self.spectrum.columns(self.B, self.whole.out)[..., : part.out]

    def _scaled(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows A' (pairs, R, I), each times its gate, if that does not read x."""
        if self.gate is None:
            return rows
        if self._frozen:
            gates = self.mask
        else:
            gates = self._static_gates(self.gate)
            gates = _straight_through(gates) if self._hard else gates
        return rows * gates.repeat(1, self.spectrum.pieces)[..., None]

    def _static_gates(self, gate: nn.Module) -> torch.Tensor:
        """The factors (pairs, r) of a gate that reads nothing."""
        nothing = self.A.new_zeros(1)
        found: torch.Tensor = gate(nothing, nothing)[0]
        return found

    def _raised(self, z: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Ranks (..., pairs * R) to outputs (..., O) by B'ᵀ (parts, R, O)."""
        z = z.reshape(*z.shape[:-1], self.pairs, -1)
        z = z.expand(*z.shape[:-2], len(columns), z.shape[-1])
        return torch.einsum("...pk,pko->...po", z, columns).flatten(-2) * self.gamma

    def _live(self, tokens: torch.Tensor) -> torch.Tensor:
        """Gates (N, pairs, r) for tokens (N, T, pairs, pieces, r)."""
        assert self.gate is not None
        real = tokens.detach().ne(0).flatten(2).any(dim=-1)
        squares = tokens.square().sum(dim=3)
        soft = self.gate((squares + 1e-12).sqrt(), real)
        if self.training and torch.is_grad_enabled():
            self._mean_gate.put(self.lambda_rank * soft.mean())
        if self.watched is not None:
            self.watched.append((soft.detach() > 0.5).float())
        return _straight_through(soft) if self._hard or not self.training else soft

    def _groups(self, x: torch.Tensor) -> int:
        if self.gate_scope == "batch" or x.ndim == 2:
            return 1
        if self.grid is None:
            return len(x)
        if len(x) % self.grid.images:
            raise ConfigError(
                f"an input of {len(x)} entries does not divide into {self.grid.images} images; "
                "let `whole_images` say what the block of this layer was given"
            )
        return self.grid.images

    def _not_foldable(self) -> NotFoldable:
        return NotFoldable(
            "FouRA's gate reads x, and no weight does; freeze it with "
            "hwnas.adapters.kinds.foura.freeze_gates(adapters, run), or keep the branch"
        )


@torch.no_grad()
def freeze_gates(
    adapters: Mapping[str, WeightAdapter], run: Callable[[], object], *, keep: int | None = None
) -> dict[str, list[int]]:
    """Freeze the gates at what they do in `run`, which passes calibration images; ranks left.

    Args:
        adapters: `Attached.adapters(name)`, active; those without a gate stay as they are.
        run: Called once, with the adapters in evaluation.
        keep: Ranks to keep of each pair; those open for half of the images by default.
    """
    gated = {
        path: adapter for path, adapter in adapters.items()
        if isinstance(adapter, FouraAdapter) and adapter.gate is not None and not adapter.frozen
    }  # fmt: skip
    before = {path: adapter.training for path, adapter in gated.items()}
    for adapter in gated.values():
        adapter.watched = []
        adapter.eval()
    run()
    kept = {path: adapter.freeze_gates(keep) for path, adapter in gated.items()}
    for path, adapter in gated.items():
        adapter.train(before[path])
    return kept


def _straight_through(soft: torch.Tensor) -> torch.Tensor:
    return (soft > 0.5).to(soft.dtype) + soft - soft.detach()


def _require(rank: int, transform: str, gate: str, gate_scope: str) -> None:
    problems = [] if rank >= 1 else [f"rank {rank}: a pair needs a rank of at least 1"]
    for name, value, known in (
        ("transform", transform, TRANSFORMS),
        ("gate", gate, GATES),
        ("gate_scope", gate_scope, GATE_SCOPES),
    ):
        if value not in known:
            problems.append(f"{name} {value!r}: expected one of {', '.join(known)}")
    if problems:
        raise ConfigError("; ".join(problems))


def _settle(module: nn.Module, _: object) -> None:
    module.settle()  # type: ignore[operator]
