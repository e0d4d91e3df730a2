"""What is said of a search that began with exact designs, and its file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hwnas.errors import RunError
from hwnas.records import RunFolder
from hwnas.records.exact import ExactDesign, ExactStart, read_exact, write_exact


def design(score: float, cost: float, found: float | None, **more: object) -> ExactDesign:
    return ExactDesign(
        arch_id=f"a{cost:g}", genes={"width": 3}, values={"score": score, "cost": cost},
        given=cost > 1, found=found, **more,  # type: ignore[arg-type]
    )  # fmt: skip


START = ExactStart(
    objective="score", unit="points", direction="max", budget="cost", budget_unit="ms",
    shared=("depth",), combinations=3, complete=False, seconds=1.25, limits_differ=False,
    designs=(design(1.0, 4.0, 1.0), design(0.75, 2.0, 0.5), design(0.0, 1.0, None)),
    ended=True, hypervolume_ratio=0.9,
)  # fmt: skip


def test_the_sentences_give_the_worst_gap_and_where_it_is() -> None:
    first, second = START.sentences()
    assert first == (
        "3 designs, of the exact front of score and cost, were found in 1.2 s; the first "
        "population had 2 of them."
    )
    assert second == (
        "The search ended with 90.00 % of the exact hypervolume: as good at 1 of 3 budgets, and at "
        "most 0.25 points (25 % of the range) behind, at 2 ms; it has nothing at 1 of them."
    )
    assert [START.behind(d) for d in START.designs] == [0.0, 0.25, None]
    assert replace(START, ended=False).sentences() == (first,)


def test_a_search_that_is_better_within_a_budget_is_not_behind() -> None:
    one = replace(START, designs=(design(1.0, 4.0, 1.5),))
    assert one.behind(one.designs[0]) == 0.0
    turned = replace(one, direction="min")
    assert turned.behind(turned.designs[0]) == 0.5


def test_what_is_not_sure_is_said() -> None:
    loose = replace(
        START, limits_differ=True, designs=(design(1.0, 4.0, 1.0, gap=0.02), *START.designs[1:])
    )
    _, _, late, limits = loose.sentences()
    assert "up to 2 % of the range" in late
    assert "pessimistic end" in limits


def test_one_objective_has_an_optimum() -> None:
    one = replace(START, budget=None, budget_unit="", designs=(design(1.0, 4.0, 0.75),))
    assert one.sentences() == (
        "The exact optimum of score is 1 points; the first population had it (1.2 s).",
        "The search ended 0.25 points behind the exact optimum.",
    )


def test_the_file_comes_back_equal(tmp_path: Path) -> None:
    with RunFolder.create(
        tmp_path / "run", config={}, command="hwnas search", seeds={}, inputs={}
    ) as folder:
        assert read_exact(folder) is None
        write_exact(folder, START)
        assert read_exact(folder) == START
        folder.write_text("exact.json", START.to_json()[:99])
        with pytest.raises(RunError, match=r"exact\.json is damaged"):
            read_exact(folder)
