"""What the scripts of the page draw: plain JSON, every number in the unit it is shown in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hwnas.records import Evaluation
from hwnas.report.data import GeneLike, ReportData
from hwnas.report.design_text import design_summary
from hwnas.report.quantity import ShownCost, format_number, shown_costs
from hwnas.report.selection import selected_designs
from hwnas.report.table import best_first, rescored_text, rescored_title

__all__ = ["MOST_DOTS", "page_payload"]

MOST_DOTS = 2000  # dots of evaluated designs that a browser pans without stutter
_SIGNS = {"<=": "\N{LESS-THAN OR EQUAL TO}", ">=": "\N{GREATER-THAN OR EQUAL TO}"}
_INDEXED = re.compile(r"(?P<container>.+?)\.(?P<index>\d+)\.(?P<choice>.+)")


def page_payload(data: ReportData) -> dict[str, Any]:
    """Everything interactive, without any text that is already HTML."""
    return _Payload(data).whole


@dataclass(frozen=True)
class _Payload:
    data: ReportData

    @cached_property
    def shown(self) -> tuple[ShownCost, ...]:
        return shown_costs(self.data)

    @property
    def whole(self) -> dict[str, Any]:
        data = self.data
        selected = selected_designs(data)
        labels = {arch_id: label for label, arch_id in selected.items()}
        front = [self.design(e, labels.get(e.arch_id, "")) for e in best_first(data)]
        references = [self.design(e, label) for label, e in data.references.items()]
        return {
            "costs": [self.cost(shown) for shown in self.shown],
            "front": front,
            "references": references,
            "selected": list(selected.values()),
            "baselines": [
                {"label": label, "designs": [self.dot(e) for e in evaluations]}
                for label, evaluations in data.baselines.items()
            ],
            "evaluated": [self.dot(e) for e in thinned(data.succeeded)],
            "limits": [self.limit(*ends) for ends in self.limits()],
            "genes": [_gene(gene) for gene in data.genes],
            **grid_layout(data.genes),
            "hypervolume": [
                {"label": t.label, "x": list(t.evaluations), "y": list(t.values)}
                for t in data.hypervolume
            ],
        }

    def cost(self, shown: ShownCost) -> dict[str, Any]:
        return {
            "name": shown.name,
            "unit": shown.unit,
            "title": shown.title,
            "word": shown.word,
            "direction": shown.cost.direction,
            "objective": shown.cost.is_objective,
        }

    def dot(self, evaluation: Evaluation, label: str = "") -> dict[str, Any]:
        """A design as a dot of the chart with its hover."""
        return {
            "label": label,
            "id": evaluation.arch_id,
            "order": evaluation.index + 1,
            "summary": design_summary(evaluation.genes),
            "values": [_scaled(evaluation.values.get(s.name), s) for s in self.shown],
            "texts": [self._hover(evaluation, s) for s in self.shown],
        }

    def design(self, evaluation: Evaluation, label: str) -> dict[str, Any]:
        """A design with everything the page knows about it."""
        return {
            **self.dot(evaluation, label),
            "ends": [_ends(evaluation, s) for s in self.shown],
            "genes": [evaluation.genes.get(gene.name) for gene in self.data.genes],
            "parts": [_parts(evaluation.breakdown.get(s.name), s) for s in self.shown],
            "rescored": [
                f"{rescored_title(rescoring)} {rescored_text(rescoring, evaluation.arch_id)}"
                for rescoring in self.data.rescorings
                if evaluation.arch_id in rescoring.values
            ],
        }

    def limits(self) -> Iterable[tuple[int, Any]]:
        names = [shown.name for shown in self.shown]
        for limit in self.data.limits:
            if limit.name in names:
                yield names.index(limit.name), limit

    def limit(self, column: int, limit: Any) -> dict[str, Any]:
        shown = self.shown[column]
        return {
            "cost": column,
            "bound": limit.bound * shown.factor,
            "text": f"limit {_SIGNS[limit.op]} {shown.bound(limit.bound)}",
        }

    @staticmethod
    def _hover(evaluation: Evaluation, shown: ShownCost) -> str:
        text = shown.text(evaluation)
        if text == "n/a":
            return f"{shown.name} n/a"
        value, _, interval = text.partition(" ")
        parts = (shown.name, value, shown.unit, interval)
        words = " ".join(part for part in parts if part)
        return f"{words}, {shown.word_for(evaluation)}"


def thinned(evaluations: Sequence[Evaluation]) -> Sequence[Evaluation]:
    """At most `MOST_DOTS` of them, evenly spaced over the run."""
    step = -(-len(evaluations) // MOST_DOTS) or 1
    return evaluations[::step]


def grid_layout(genes: Sequence[GeneLike]) -> dict[str, Any]:
    """Arrange genes for the heat map, by position in `genes`.

    Returns:
        `grids`: one for each repeated container (`blocks`), with the indexes as columns, the
        choices as rows and None where a block lacks a choice; `singles`: all other genes.
    """
    found: dict[str, dict[str, dict[int, int]]] = {}
    singles = []
    for position, gene in enumerate(genes):
        match = _INDEXED.fullmatch(gene.name)
        if match is None:
            singles.append(position)
            continue
        rows = found.setdefault(match["container"], {})
        rows.setdefault(match["choice"], {})[int(match["index"])] = position
    return {"singles": singles, "grids": [_grid(name, rows) for name, rows in found.items()]}


def _grid(name: str, rows: Mapping[str, Mapping[int, int]]) -> dict[str, Any]:
    columns = sorted({index for row in rows.values() for index in row})
    return {
        "title": name,
        "columns": columns,
        "rows": [
            {"label": label, "cells": [row.get(index) for index in columns]}
            for label, row in rows.items()
        ],
    }


def _gene(gene: GeneLike) -> dict[str, Any]:
    return {
        "name": gene.name,
        "role": gene.role,
        "options": list(gene.options),
        "ordered": gene.ordered,
    }


def _scaled(value: float | None, shown: ShownCost) -> float | None:
    return None if value is None else value * shown.factor


def _ends(evaluation: Evaluation, shown: ShownCost) -> list[float] | None:
    ends = evaluation.intervals.get(shown.name)
    return None if ends is None else [end * shown.factor for end in ends]


def _parts(parts: Mapping[str, float] | None, shown: ShownCost) -> list[list[Any]] | None:
    """(block, value, its text), the parts of one block (`blocks.3.qkv`, ...) added up."""
    if not parts:
        return None
    blocks: dict[str, float] = {}
    for name, value in parts.items():
        match = _INDEXED.fullmatch(name)
        block = f"{match['container']}.{match['index']}" if match else name
        blocks[block] = blocks.get(block, 0.0) + value * shown.factor
    return [[name, value, format_number(value)] for name, value in blocks.items()]
