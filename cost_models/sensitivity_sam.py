"""Errors of the groups of a SAM supernet: two passes an image, then one layer at a time.

The network is the largest one in floating point (`hwnas.supernet.probing`), which keeps the input
and the output Y of every layer and the gradient there. Then each layer alone is run with the
weights and inputs of an option, as the supernet has them: its quantizers, and its adapters for
these bits.

    quantized      Y^ - Y of qkv, proj, lin1, lin2 at (w_bits, a_bits), of attention at attn_bits
    fewer heads    P_h - P at the output of proj, with the first h heads
    fewer units    likewise at the output of lin2
    dropped block  minus what the block adds to the residual stream

A narrower layer is charged its share: the error of the whole one times active heads or units over
all, because noise adds up over what is summed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cost_models.sensitivity_taps import Tap, taps_of
from cost_models.sensitivity_terms import ErrorTerm
from hwnas.cost.remembering import Records
from hwnas.errors import CostError
from hwnas.quant.bits import FLOAT_BITS
from hwnas.space import SearchSpace
from hwnas.supernet.encoder_view import BlockView
from hwnas.supernet.probing.probe import BatchSize, Probe
from hwnas.supernet.probing.sam_probes import SamProbes
from hwnas.supernet.probing.weight_traces import weight_traces
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.windows import merge_windows
from hwnas.workload.sam_plan import LINEARS, EncoderPlan

__all__ = ["SamErrors"]

Float = NDArray[np.float64]
Found = dict[str, Float]  # errors of one image by the name of the term


class SamErrors:
    """Measures the terms of one supernet for one space.

    Raises:
        CostError: the space has genes of other parts (`token_grid`, `dim`).
    """

    def __init__(
        self, supernet: SamSupernet, space: SearchSpace, *,
        kind: Literal["gradient", "sqnr", "hessian"], probes: int, seed: int,
    ) -> None:  # fmt: skip
        self._supernet, self._space, self._kind = supernet, space, kind
        self._probes, self._seed = probes, seed
        self._networks = SamProbes(supernet)
        self._moved: Found = {}
        self._geometry = supernet.geometry
        names = {gene.name for gene in space.genes}
        odd = sorted(names & {"token_grid", "dim"})
        if odd:
            raise CostError(
                f"sensitivity does not know the genes {', '.join(odd)}; use a space without them"
            )

    def terms(
        self, data: Any, *, resolution: int, images: int, records: Records | None = None
    ) -> list[ErrorTerm]:
        """The terms at one resolution, from `images` batches of one image each.

        Images whose errors `records` hold are not run again; those of the others are added.
        """
        plan = EncoderPlan.uniform(self._geometry, resolution=resolution)
        size = BatchSize(images, 1, self._seed)
        network = self._networks.probe(plan, weights="inherited", seed=0)  # type: ignore[arg-type]
        batches = self._networks.probe_batches(plan, data, size)  # type: ignore[arg-type]
        found = []
        for row, batch in enumerate(batches):
            key = f"errors/{resolution}/{row}"
            if records is None:
                found.append(self._measured(network, batch, plan, row))
                continue
            if key not in records:
                new = self._measured(network, batch, plan, row)
                records.add(key, {name: errors.tolist() for name, errors in new.items()})
            found.append({name: np.array(c, dtype=np.float64) for name, c in records[key].items()})
        return [
            ErrorTerm(name, genes, np.stack([one[name] for one in found]), falling)
            for name, (genes, falling) in self._genes().items()
        ]

    def _measured(self, network: Probe, batch: Any, plan: EncoderPlan, row: int) -> Found:
        if self._kind == "hessian":
            rng = torch.Generator().manual_seed(self._seed * 1_000_003 + row)
            traces = weight_traces(network, batch, probes=self._probes, rng=rng)
            return {name: self._scaled(name, c) for name, c in self._by_trace(plan, traces).items()}
        taps = taps_of(network, batch, with_gradient=self._kind == "gradient")
        with torch.no_grad():
            found = dict(self._quantized(plan, taps))
            found |= dict(self._narrowed(plan, taps))
            dropped = [self._dropped(block, taps) for block in range(self._geometry.depth)]
        scaled = {name: self._scaled(name, c) for name, c in found.items()}
        return scaled | dict(self._by_depth(dropped))

    def _quantized(self, plan: EncoderPlan, taps: dict[str, Tap]) -> Iterator[tuple[str, Float]]:
        """Errors by (w_bits, a_bits) of each linear layer, and by attn_bits of each attention."""
        views: dict[tuple[int, int, int], Sequence[BlockView]] = {}

        def block_at(index: int, bits: tuple[int, int, int]) -> BlockView:
            if bits not in views:
                views[bits] = self._view(plan, *bits)
            return views[bits][index]

        for index in range(self._geometry.depth):
            prefix = f"blocks.{index}"
            for linear in LINEARS:
                name = f"{prefix}.{linear}"
                w_options, a_options = self._bits(name)
                table = np.zeros((len(w_options), len(a_options)))
                for i, w in enumerate(w_options):
                    for j, a in enumerate(a_options):
                        if min(w, a) < FLOAT_BITS:
                            layer = getattr(block_at(index, (w, a, FLOAT_BITS)), linear)
                            table[i, j] = taps[name].error(layer(taps[name].x))
                yield name, table
            name = f"{prefix}.attn"
            options = self._options(f"{name}_bits")
            yield name, np.array([
                taps[name].error(
                    block_at(index, (FLOAT_BITS, FLOAT_BITS, bits)).attention(taps[name].x)
                ) if bits < FLOAT_BITS else 0.0
                for bits in options
            ])  # fmt: skip

    def _narrowed(self, plan: EncoderPlan, taps: dict[str, Tap]) -> Iterator[tuple[str, Float]]:
        """Errors by the number of heads, and by the ratio of the MLP, of each block."""
        g = self._geometry
        for index in range(g.depth):
            prefix = f"blocks.{index}"
            by_heads = []
            for heads in self._options(f"{prefix}.heads"):
                block = self._narrow(plan, heads, g.mlp_hidden)[index]
                y = block.proj(block.attention(block.qkv(taps[f"{prefix}.qkv"].x)))
                by_heads.append(taps[f"{prefix}.proj"].error(y) if heads < g.heads else 0.0)
            yield f"{prefix}.heads", np.array(by_heads)
            by_ratio = []
            for ratio in self._options(f"{prefix}.ratio"):
                block = self._narrow(plan, g.heads, ratio * g.dim)[index]
                y = block.lin2(functional.gelu(block.lin1(taps[f"{prefix}.lin1"].x)))
                by_ratio.append(taps[f"{prefix}.lin2"].error(y) if ratio < g.mlp_ratio else 0.0)
            yield f"{prefix}.ratio", np.array(by_ratio)

    def _dropped(self, index: int, taps: dict[str, Tap]) -> float:
        """The error of a block that is left out: it adds nothing to the residual stream."""
        prefix, window = f"blocks.{index}", self._geometry.window_of(index)
        last = taps[f"{prefix}.lin2"]  # its gradient is that of the block's output
        added = last.y + merge_windows(taps[f"{prefix}.proj"].y, window, last.y.shape[1])
        if last.grad is None:  # the signal of a block is its output
            whole = Tap(added, taps[f"{prefix}.in"].x + added)
            return whole.change(-added)
        return last.change(-added)

    def _by_depth(self, dropped: Sequence[float]) -> Iterator[tuple[str, Float]]:
        """Sums over the blocks that each depth of a stage leaves out."""
        for depth, left_out in self._left_out.items():
            sums = [sum(dropped[block] for block in blocks) for blocks in left_out]
            yield depth, np.array(sums, dtype=np.float64)

    @cached_property
    def _left_out(self) -> dict[str, list[list[int]]]:
        """For each depth and option of it the blocks that are not there."""
        found = {}
        for stage in range(self._geometry.stages):
            depth, blocks = f"keep.{stage}", self._geometry.stage_blocks(stage)
            archs = [self._space.freeze({depth: o}).smallest() for o in self._options(depth)]
            found[depth] = [
                [b for b in blocks if f"blocks.{b}.heads" not in arch.genes] for arch in archs
            ]
        return found

    def _by_trace(self, plan: EncoderPlan, traces: dict[str, float]) -> dict[str, Float]:
        """Mean trace times squared rounding error of each weight, by w_bits."""
        if not self._moved:
            with torch.no_grad():
                self._moved = {
                    f"blocks.{index}.{linear}": self._rounding(plan, index, linear)
                    for index in range(self._geometry.depth)
                    for linear in LINEARS
                }
        return {name: moved * traces[name] for name, moved in self._moved.items()}

    def _rounding(self, plan: EncoderPlan, index: int, linear: str) -> Float:
        """Mean squared rounding error of a weight, by w_bits."""
        options = self._bits(f"blocks.{index}.{linear}")[0]
        exact, *others = (
            getattr(self._view(plan, w, FLOAT_BITS, FLOAT_BITS)[index], linear).weight
            for w in (FLOAT_BITS, *options)
        )
        return np.array([float((other - exact).square().mean()) for other in others])

    def _scaled(self, name: str, errors: Float) -> Float:
        """Give errors the axis of the gene that makes the layer narrower, in front."""
        width = self._width(name)
        if width is None:
            return errors
        gene, full = width
        shares = np.array([int(option) / full for option in self._options(gene)])
        return shares.reshape(-1, *(1,) * errors.ndim) * errors

    def _width(self, name: str) -> tuple[str, int] | None:
        prefix, _, part = name.rpartition(".")
        if part in ("qkv", "attn", "proj"):
            return f"{prefix}.heads", self._geometry.heads
        return (f"{prefix}.ratio", self._geometry.mlp_ratio) if part in ("lin1", "lin2") else None

    def _genes(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """Genes of each term, and those along which errors fall."""
        found: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        for index in range(self._geometry.depth):
            prefix = f"blocks.{index}"
            for linear in LINEARS:
                name = f"{prefix}.{linear}"
                bits: tuple[str, ...] = (f"{name}.w_bits", f"{name}.a_bits")
                bits = bits[:1] if self._kind == "hessian" else bits
                found[name] = ((self._wide(name), *bits), bits)
            if self._kind == "hessian":
                continue
            bits = (f"{prefix}.attn_bits",)
            found[f"{prefix}.attn"] = ((self._wide(f"{prefix}.attn"), *bits), bits)
            for gene in (f"{prefix}.heads", f"{prefix}.ratio"):
                found[gene] = ((gene,), (gene,))
        if self._kind != "hessian":
            depths = [f"keep.{stage}" for stage in range(self._geometry.stages)]
            found |= {depth: ((depth,), (depth,)) for depth in depths}
        return found

    def _wide(self, name: str) -> str:
        width = self._width(name)
        if width is None:
            raise CostError(f"{name}: not a layer of a block")
        return width[0]

    def _view(self, plan: EncoderPlan, w: int, a: int, attn: int) -> Sequence[BlockView]:
        """The blocks at these bits; patch embedding and neck stay in floating point."""
        bits = EncoderPlan.uniform(
            self._geometry, resolution=plan.resolution, w_bits=w, a_bits=a, attn_bits=attn,
            edge_bits=FLOAT_BITS,
        )  # fmt: skip
        blocks: Sequence[BlockView] = self._supernet.encoder.view(bits).blocks
        return blocks

    def _narrow(self, plan: EncoderPlan, heads: int, hidden: int) -> Sequence[BlockView]:
        blocks = tuple(replace(b, heads=heads, mlp_hidden=hidden) for b in plan.blocks)
        found: Sequence[BlockView] = self._supernet.encoder.view(
            replace(plan, blocks=blocks)
        ).blocks
        return found

    def _bits(self, layer: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self._options(f"{layer}.w_bits"), self._options(f"{layer}.a_bits")

    def _options(self, gene: str) -> tuple[int, ...]:
        return tuple(int(option) for option in self._space.gene(gene).options)
