"""The exact front and the matrices of sensitivities on the page."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from hwnas.cost.matrices import CostMatrices, error_matrices, level_of
from hwnas.records.exact import ExactDesign, ExactStart
from hwnas.report import ReportData
from hwnas.report.exact import exact_front
from hwnas.report.html import report_html
from hwnas.report.matrices import matrices

DESIGNS = tuple(
    ExactDesign(
        arch_id=f"a{i}", genes={}, values={"score": 1.0 - 0.25 * i, "cost": 4.0 - i},
        given=i != 1, gap=0.01 * (i == 2), found=found,
    )
    for i, found in enumerate((1.0, 0.5, None))
)  # fmt: skip
START = ExactStart(
    objective="score", unit="points", direction="max", budget="cost", budget_unit="ms",
    shared=("depth",), combinations=3, complete=False, seconds=1.0, limits_differ=False,
    designs=DESIGNS, ended=True, hypervolume_ratio=0.9,
)  # fmt: skip
GROUPS = [
    {"name": "b.0.lin", "genes": ["b.0.heads", "b.0.lin.w_bits", "b.0.lin.a_bits"],
     "options": [[1, 3], [2, 8], [4, 8]],
     "errors": [[[9, 9], [9, 9]], [[4.0, 2.0], [1.0, 0.0]]]},
    {"name": "b.1.lin", "genes": ["b.1.heads", "b.1.lin.w_bits", "b.1.lin.a_bits"],
     "options": [[1, 3], [2, 8], [4, 8]],
     "errors": [[[9, 9], [9, 9]], [[0.4, 0.2], [0.1, 0.0]]]},
    {"name": "keep.0", "genes": ["keep.0"], "options": [[1, 2]], "errors": [5.0, 0.0]},
]  # fmt: skip


def rows_of(markup: str) -> list[list[str]]:
    whole = markup.replace("<details open>", "<details>")
    table = next(iter(ET.fromstring(f"<x>{whole}</x>").iter("tbody")))
    return [["".join(cell.itertext()) for cell in row] for row in table]


def test_each_budget_has_a_row_with_the_gap() -> None:
    parts = exact_front(START)
    for sentence in START.sentences():
        assert any(sentence in part for part in parts)
    assert rows_of(parts[-1]) == [
        ["4", "1", "1", "0", "0.00 %", "yes", "proved", "a0"],
        ["3", "0.750", "0.500", "0.250", "50.00 %", "no", "proved", "a1"],
        ["2", "0.500", "n/a", "n/a", "n/a", "yes", "1 %", "a2"],
    ]


def test_the_page_has_both_sections_only_where_there_is_something(
    make_data: Callable[..., ReportData],
) -> None:
    found = CostMatrices("sensitivity", "NSR", "on 2 images", tuple(error_matrices(GROUPS)))
    page = report_html(make_data(exact=START, matrices=(found,)))
    assert "The exact front" in page
    assert "sensitivity by group" in page
    plain = report_html(make_data())
    assert "The exact front" not in plain
    assert "by group" not in plain


def test_groups_with_equal_options_share_a_table_at_the_largest_width() -> None:
    layers, depth = error_matrices(GROUPS)
    assert layers.title == "w_bits, a_bits (at heads 3)"
    assert layers.columns == ("2, 4", "2, 8", "8, 4", "8, 8")
    assert layers.rows == {"b.0.lin": (4.0, 2.0, 1.0, 0.0), "b.1.lin": (0.4, 0.2, 0.1, 0.0)}
    assert (depth.title, depth.columns) == ("keep", ("1", "2"))
    assert layers.ends == (0.1, 4.0)


@pytest.mark.parametrize(
    ("error", "level"), [(0.0, 0.0), (1e-4, 0.0), (1e-2, 0.5), (1.0, 1.0), (5.0, 1.0)]
)
def test_shades_are_logarithmic(error: float, level: float) -> None:
    assert level_of(error, (1e-4, 1.0)) == pytest.approx(level)


def test_the_maps_show_every_error_and_leave_what_is_free_empty() -> None:
    found = CostMatrices("sensitivity", "NSR", "on 2 images", tuple(error_matrices(GROUPS)))
    words, layers, depth = matrices(found)
    assert "sensitivity (NSR)" in words
    assert rows_of(layers)[0] == ["b.0.lin", "4", "2", "1", ""]
    assert rows_of(depth) == [["keep.0", "5", ""]]
    assert '"level strong" style="--level: 1.00"' in depth
