"""The best subnet of a supernet for each of some budgets, chosen on val and scored on test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hwnas.cost import build as build_cost
from hwnas.errors import DataError
from hwnas.records import EvaluatedSubnet, read_subnets
from hwnas.records.files import replace_text
from hwnas.space import SearchSpace, load_space
from hwnas.supernet.training.sampling import SubnetSampler
from hwnas.workflows.context import make_context
from hwnas.workflows.evaluate.subnets import evaluate_subnets
from hwnas.workflows.watch import Silent, Watch

__all__ = ["BUDGETS", "BUDGETS_FILE", "BudgetRow", "study_budgets"]

BUDGETS_FILE = "budgets.json"

BUDGETS = (1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125)
"""Shares of the encoder BitOPs of the largest network at 8 bits."""

_FP32, _FP16, _W8A8 = 32 * 32, 16 * 16, 8 * 8


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """The subnet chosen for a budget, in GBitOPs; `saved_*` compare with the largest network."""

    budget: float
    arch_id: str
    bitops: float
    system_bitops: float
    prompt: str
    val_iou: float
    iou: float
    error: float | None
    boundary_iou: float | None
    saved_fp32: float
    saved_fp16: float
    saved_w8a8: float


def study_budgets(  # noqa: PLR0913 - one keyword for each option of the command
    subnets: str | Path,
    *,
    supernet: str | Path,
    out: str | Path,
    data: str | Path | None = None,
    split: str = "test",
    space: str | None = None,
    prompts: Sequence[str] = ("box", "point"),
    budgets: Sequence[float] = BUDGETS,
    max_prompts: int | None = None,
    seed: int = 0,
    watch: Watch | None = None,
) -> list[BudgetRow]:
    """Choose by `subnets`, a JSONL of `hwnas evaluate` on another split, and score on `split`.

    For each budget the subnet with the highest IoU (mean over its prompts) among those that fit.
    `max_prompts` objects of an image, drawn with `seed`, are prompted; None prompts all.
    Chosen subnets are written to `out/chosen.jsonl` before any is scored, scores to
    `out/scores.jsonl`; a second call goes on where the first was stopped.

    Raises:
        DataError: the file holds figures of `split` itself, or nothing fits a budget.
    """
    lines = read_subnets(Path(subnets))
    _refuse_own_split(lines, split, subnets)
    found = load_space(space or _space_of(supernet))
    largest = _largest_w8a8(found)
    chosen = {share: _best(lines, share * largest, share) for share in budgets}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    genes = [{"arch_id": c.arch_id, "genes": c.genes} for c in chosen.values()]
    replace_text(folder / "chosen.jsonl", "".join(json.dumps(g) + "\n" for g in genes))
    scores = folder / "scores.jsonl"
    scored = evaluate_subnets(
        supernet, archs=str(folder / "chosen.jsonl"), data=data, split=split, prompts=prompts,
        space=found, out=scores, resume=scores.exists(), max_prompts=max_prompts, seed=seed,
        watch=watch or Silent(),
    )  # fmt: skip
    rows = [
        _row(share, best, line, largest)
        for share, best in chosen.items()
        for line in scored
        if line["arch_id"] == best.arch_id
    ]
    replace_text(folder / "budgets.md", _markdown(rows))
    replace_text(folder / BUDGETS_FILE, json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return rows


def _space_of(supernet: str | Path) -> str:
    from hwnas.supernet.sam_supernet import build

    return build(supernet).geometry.name


def _refuse_own_split(lines: Sequence[EvaluatedSubnet], split: str, source: str | Path) -> None:
    if any(line.split == split for line in lines):
        raise DataError(
            f"{source}: figures of the split {split}, on which the chosen subnets are scored; "
            "give figures of another split, as val"
        )


def _largest_w8a8(space: SearchSpace) -> float:
    arch = SubnetSampler(space).largest(8)
    return float(build_cost("bitops", make_context(space)).evaluate(arch)[0])


@dataclass(frozen=True, slots=True)
class _Chosen:
    arch_id: str
    genes: dict[str, Any]
    iou: float


def _best(lines: Sequence[EvaluatedSubnet], limit: float, share: float) -> _Chosen:
    scores: dict[str, list[float]] = {}
    genes = {}
    for line in lines:
        if line.bitops is not None and line.bitops <= limit:
            scores.setdefault(line.arch_id, []).append(line.iou)
            genes[line.arch_id] = dict(line.genes)
    if not scores:
        raise DataError(
            f"no subnet fits {share:g} of the largest network at 8 bits ({limit:.4g} GBitOPs); "
            "evaluate more subnets, as random:400"
        )
    means = {arch_id: sum(values) / len(values) for arch_id, values in scores.items()}
    best = max(means, key=lambda arch_id: (means[arch_id], arch_id))
    return _Chosen(best, genes[best], means[best])


def _row(share: float, best: _Chosen, line: dict[str, Any], largest: float) -> BudgetRow:
    bitops = float(line["bitops"])

    def saved(bits: int) -> float:
        return 1 - bitops / (largest * bits / _W8A8)

    return BudgetRow(
        share, best.arch_id, bitops, float(line["system_bitops"]), line["prompt"], best.iou,
        line["iou"], line["error"], line["boundary_iou"], saved(_FP32), saved(_FP16), saved(_W8A8),
    )  # fmt: skip


def _markdown(rows: Sequence[BudgetRow]) -> str:
    head = (
        "| budget | subnet | encoder GBitOPs | system GBitOPs | prompt | val IoU | test IoU | "
        "boundary IoU | less than fp32 | less than fp16 | less than W8A8 |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|\n"
    )
    lines = []
    for r in rows:
        error = "" if r.error is None else f" ± {100 * r.error:.1f}"
        band = "" if r.boundary_iou is None else f"{100 * r.boundary_iou:.1f}"
        lines.append(
            f"| {r.budget:g} | `{r.arch_id}` | {r.bitops:.1f} | {r.system_bitops:.1f} "
            f"| {r.prompt} | {100 * r.val_iou:.1f} | {100 * r.iou:.1f}{error} | {band} | "
            f"{r.saved_fp32:.1%} | {r.saved_fp16:.1%} | {r.saved_w8a8:.1%} |\n"
        )
    return head + "".join(lines)
