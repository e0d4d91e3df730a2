"""The relaxed cell between the two factors of a NAS-LoRA adapter.

Mixed operation of DARTS: sum over operations of softmax(alpha) times the operation. PC-DARTS (Xu
et al., 2020): the operations see the first 1/K of the channels, the others pass by, then the
channels are shuffled with K groups; with two nodes, softmax(beta) weighs the edges that enter a
node. With one edge a beta would always be 1, so there is none.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from hwnas.adapters.kinds.nas_lora.operations import (
    OP_SETS,
    OPERATIONS,
    Normed,
    Operation,
    Surroundings,
)
from hwnas.errors import ConfigError

__all__ = ["OP_STYLES", "Cell"]

_EDGES = {1: ((0, 1),), 2: ((0, 1), (0, 2), (1, 2))}  # (from, to), node 0 is the input
OP_STYLES = ("linear", "darts")
_BARE = ("none", "skip")


class Cell(nn.Module):
    """Maps (B, C, H, W) to maps of the same shape through one edge, or two nodes and three edges.

    Buffers that a trainer moves: `t` () anneals from 0 to 1, `temperature` () divides alpha,
    `kept` (edges, operations) says what is left of the candidates and `strength` (edges,) the
    factor of the one that a discretized edge has kept.
    """

    t: torch.Tensor
    temperature: torch.Tensor
    kept: torch.Tensor
    strength: torch.Tensor

    def __init__(
        self, channels: int, rng: torch.Generator, *, op_set: str = "light",
        op_style: str = "linear", nodes: int = 1, pc_k: int = 1,
        alpha_init: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        _require(channels, op_set, op_style, nodes, pc_k, alpha_init or {})
        self.channels, self.pc_k, self.nodes = channels, pc_k, nodes
        self.names = OP_SETS[op_set]
        self.edges = nn.ModuleList(
            nn.ModuleList(_operation(n, channels // pc_k, op_style, rng) for n in self.names)
            for _ in _EDGES[nodes]
        )
        size = len(self.edges), len(self.names)
        start = torch.tensor([(alpha_init or {}).get(name, 0.0) for name in self.names])
        self.alpha = nn.Parameter(start + 1e-3 * torch.randn(size, generator=rng))
        self.beta = nn.Parameter(1e-3 * torch.randn(2, generator=rng)) if nodes == 2 else None
        self.register_buffer("t", torch.zeros(()))
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("kept", torch.ones(size))
        self.register_buffer("strength", torch.ones(size[0]))
        self.settle()

    def settle(self) -> None:
        """Read off the buffers which operations are computed; the others train no more."""
        self._alive = [[i for i, keep in enumerate(row) if keep] for row in self.kept.tolist()]
        self.discrete = all(len(row) == 1 for row in self._alive)
        self.annealed = bool(self.t == 1)
        for row, edge in zip(self._alive, self.edges, strict=True):
            for i in set(range(len(self.names))) - set(row):
                edge[i].requires_grad_(False)  # type: ignore[index]
        if self.discrete:
            for parameter in self.architecture():
                parameter.requires_grad_(False)

    def architecture(self) -> list[nn.Parameter]:
        """Alpha, and beta where there is one."""
        return [self.alpha] if self.beta is None else [self.alpha, self.beta]

    def operations(self) -> list[Operation]:
        """The candidates that are left, of all edges."""
        rows = zip(self._alive, self.edges, strict=True)
        return [edge[i] for row, edge in rows for i in row]  # type: ignore[index]

    @property
    def linear(self) -> bool:
        """Whether it is a linear map."""
        return all(operation.linear for operation in self.operations())

    @property
    def local(self) -> bool:
        """Whether a matrix for each token is all that it is, now."""
        return self.linear and (self.annealed or all(op.local for op in self.operations()))

    def weights(self) -> torch.Tensor:
        """The weight of each operation (edges, operations): softmax(alpha), of those left."""
        logits = (self.alpha / self.temperature).masked_fill(self.kept == 0, -torch.inf)
        return logits.softmax(dim=-1) * self.strength[:, None]

    def entropy(self) -> torch.Tensor:
        """Entropy of softmax(alpha) of each edge (edges,), from 1 for uniform to 0 for decided."""
        p = self.weights().detach() / self.strength[:, None]
        return -torch.xlogy(p, p).sum(dim=-1) / torch.log(torch.tensor(float(len(self.names))))

    def forward(
        self, maps: torch.Tensor, real: torch.Tensor, *, only_local: bool = False
    ) -> torch.Tensor:
        """The cell's output for maps (B, C, H, W); `real` (B, 1, H, W) is 0 at padded tokens.

        `only_local` leaves out the operations that read other tokens.
        """
        around, weights = Surroundings(1 - self.t, real), self.weights()
        nodes = [maps]
        share = None if self.beta is None else self.beta.softmax(dim=0)
        incoming: dict[int, list[torch.Tensor]] = {}
        for e, (source, target) in enumerate(_EDGES[self.nodes]):
            while len(nodes) <= source:
                nodes.append(_joined(incoming[len(nodes)], share))
            found = self._edge(e, nodes[source], weights[e], around, only_local)
            incoming.setdefault(target, []).append(found)
        return _joined(incoming[self.nodes], share)

    def matrix(self, *, only_local: bool = False) -> torch.Tensor:
        """What the cell makes of an image of one token, as a matrix (C, C).

        There the centres of the kernels are all that counts and a pool is the identity, which is
        what annealing ends with. Gradients pass through.
        """
        ones = torch.eye(self.channels, device=self.t.device)[..., None, None]
        found = self(ones, torch.ones_like(ones[:, :1]), only_local=only_local)
        return found[..., 0, 0].t()  # type: ignore[no-any-return]

    def discretize(self, *, keep_strength: bool = True) -> list[str]:
        """Keep the strongest operation of each edge but `none`, as DARTS decodes; their names.

        It keeps its weight as a fixed factor, so that little changes; DARTS gives it 1 and trains
        anew, as `keep_strength=False` does.
        """
        with torch.no_grad():
            weights = self.weights()
            weights[:, self.names.index("none")] = -1
            best = weights.argmax(dim=-1)
            if keep_strength and not self.discrete:
                self.strength.copy_(weights.gather(1, best[:, None])[:, 0])
            elif not keep_strength:
                self.strength.fill_(1)
            self.kept.zero_().scatter_(1, best[:, None], 1)
        self.settle()
        return [self.names[i] for i in best.tolist()]

    def _edge(
        self, e: int, maps: torch.Tensor, weights: torch.Tensor, around: Surroundings,
        only_local: bool,
    ) -> torch.Tensor:  # fmt: skip
        size = self.channels // self.pc_k
        seen = maps[:, :size]
        edge, mixed = self.edges[e], torch.zeros_like(seen)
        for i in self._alive[e]:
            operation: Operation = edge[i]  # type: ignore[index]
            if not only_local or (operation.local and operation.linear):
                mixed = mixed + weights[i] * operation(seen, around)
        if self.pc_k == 1:
            return mixed
        joined = torch.cat([mixed, maps[:, size:]], dim=1)
        groups = joined.view(len(maps), self.pc_k, size, *maps.shape[2:])
        return groups.transpose(1, 2).flatten(1, 2)  # (B, C/K, K, H, W) to (B, C, H, W)


def _joined(incoming: list[torch.Tensor], share: torch.Tensor | None) -> torch.Tensor:
    if len(incoming) == 1 or share is None:
        return incoming[0]
    return share[0] * incoming[0] + share[1] * incoming[1]


def _operation(name: str, channels: int, style: str, rng: torch.Generator) -> Operation:
    operation = OPERATIONS[name](channels, rng)
    return Normed(operation) if style == "darts" and name not in _BARE else operation


def _require(
    channels: int, op_set: str, op_style: str, nodes: int, pc_k: int, init: Mapping[str, float]
) -> None:
    problems = []
    if op_set not in OP_SETS:
        problems.append(f"op_set {op_set!r}: expected one of {', '.join(OP_SETS)}")
    elif unknown := [name for name in init if name not in OP_SETS[op_set]]:
        problems.append(
            f"alpha_init names {', '.join(unknown)}: op_set {op_set} has "
            f"{', '.join(OP_SETS[op_set])}"
        )
    if op_style not in OP_STYLES:
        problems.append(f"op_style {op_style!r}: expected {' or '.join(OP_STYLES)}")
    if nodes not in _EDGES:
        problems.append(f"cell_nodes {nodes}: expected 1 or 2")
    if pc_k < 1 or channels % pc_k:
        problems.append(f"pc_k {pc_k} does not divide the rank {channels}; choose another")
    if problems:
        raise ConfigError("; ".join(problems))
