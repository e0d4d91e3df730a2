from __future__ import annotations

from dataclasses import replace

import pytest

from hwnas.report import design_summary, front_rows
from hwnas.report.quantity import fidelity_word, format_number, format_with_error, shown_costs
from hwnas.report.selection import selected_designs


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (3.0, "3"),
        (640.0, "640"),
        (2.996, "3.00"),
        (12.345, "12.3"),
        (0.04567, "0.0457"),
        (999.7, "1,000"),
        (1234.5, "1,234"),
        (123456789, "1.23e8"),
        (0.0001234, "1.23e-4"),
        (-12.345, "-12.3"),
    ],
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [(0.8123, 0.0131, "0.812 ± 0.013"), (41.2, 3.0, "41.2 ± 3.0"), (0.5, 0.0, "0.500 ± 0")],
)
def test_a_standard_error_has_two_digits(value: float, error: float, text: str) -> None:
    assert format_with_error(value, error) == text


def test_the_kind_of_number_is_what_precedes_the_parenthesis() -> None:
    assert fidelity_word("estimated (roofline, no measurements yet)") == "estimated"
    assert fidelity_word("") == "of unstated fidelity"


def test_bytes_are_shown_in_the_unit_of_the_largest_on_the_front(make_data) -> None:
    size = shown_costs(make_data())[2]
    assert size.title == "model_size (MB), analytic"
    assert size.text(make_data().front_designs[0]) == "2.50"


def test_a_number_of_another_kind_than_its_column_says_so(make_data) -> None:
    odd, *others = make_data().front_designs
    odd = replace(odd, fidelity={"latency": "measured"})
    iou, latency, _ = shown_costs(make_data(evaluations=(odd, *others)))
    assert latency.word_for(odd) == "measured"
    assert latency.word_for(others[0]) == "estimated"
    assert iou.word_for(odd) == "measured"  # recorded by none: that of the cost


def test_rows_start_with_the_best_and_carry_intervals_units_and_kind(make_data) -> None:
    rows = front_rows(make_data())
    assert [row["arch"] for row in rows] == ["arch0", "arch1", "arch2"]
    assert rows[1] == {
        "arch": "arch1",
        "design": "256 px · depth 2 · w 7.5 bits (mean)",
        "iou, measured": "0.800",
        "latency (ms), estimated": "12.3 (6.17\N{EN DASH}24.7)",
        "model_size (MB), analytic": "2.50",
        "iou_boxes (re-scored)": "0.812 ± 0.013",
        "note": "knee",
    }
    assert rows[0]["iou_boxes (re-scored)"] == "n/a"
    assert rows[2]["iou_boxes (re-scored)"] == "0.500"


def test_an_empty_front_has_no_rows(make_data) -> None:
    assert front_rows(make_data(front=(), selected={})) == []


def test_without_a_selection_the_extremes_and_a_balance_are_shown(make_data) -> None:
    selected = selected_designs(make_data(selected={}))
    assert selected == {
        "balanced": "arch1",
        "highest iou": "arch0",
        "lowest latency": "arch2",
    }


@pytest.mark.parametrize(
    ("genes", "text"),
    [
        (
            {"resolution": 384, "depth": 10, "blocks.0.qkv.w_bits": 8, "blocks.0.qkv.a_bits": 8}
            | {"blocks.1.qkv.w_bits": 4, "blocks.1.qkv.a_bits": 3},
            "384 px · depth 10 · w 6.0 a 5.5 bits (mean)",
        ),
        (
            {"resolution": 512, "keep.0": 3, "keep.1": 2, "blocks.0.heads": 3, "blocks.1.heads": 2},
            "512 px · depth 5 · heads 2.5",
        ),
        ({"w_bits": 8, "a_bits": 8, "attn_bits": 4}, "w 8 a 8 bits"),
        ({"stages.0.op": "conv", "stages.1.op": "skip", "act": "relu"}, "op 2 kinds · act relu"),
        ({"flag": True}, "flag True"),
        ({}, "no genes"),
    ],
)
def test_a_design_in_a_few_words(genes: dict[str, object], text: str) -> None:
    assert design_summary(genes) == text


def test_data_that_contradicts_itself_is_refused(make_data, costs) -> None:
    with pytest.raises(ValueError, match="at least one objective"):
        make_data(costs=(costs["model_size"],))
    with pytest.raises(ValueError, match="no name twice"):
        make_data(costs=(costs["iou"], costs["iou"]))
    with pytest.raises(ValueError, match="arch4"):
        make_data(front=("arch4",))
    with pytest.raises(ValueError, match="nowhere"):
        make_data(selected={"knee": "nowhere"})
