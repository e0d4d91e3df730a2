from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hwnas.errors import RunError
from hwnas.records import Evaluation
from hwnas.report import ReportData, write_html, write_png
from hwnas.report import html as html_module
from hwnas.report.payload import MOST_DOTS, grid_layout, page_payload

NASTY = "</script><script>alert('x')</script>"


class Page(HTMLParser):
    """Tags, attributes and text of a page, scripts apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        in_script = self.tags and self.tags[-1][0] == "script" and data.strip()
        (self.scripts if in_script else self.words).append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    @property
    def payload(self) -> dict[str, Any]:
        return json.loads(self.scripts[0])


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch):
    """Render without the 5 MB of plotly.js, which one test alone reads."""
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "/* plotly.js */")
    return lambda data: Page(html_module.report_html(data))


def test_the_page_says_what_a_reader_needs(page, make_data) -> None:
    text = page(make_data(notes=("The run was interrupted.",))).text
    for words in (
        "small on a board",
        "Board (board:maxn)",
        "5 evaluations, 1 failed",
        "The run was interrupted.",
        "latency is estimated (roofline, no measurements yet).",
        "ms, estimated",
        "latency <= 20 ms , a hard limit, held against the pessimistic end",
        "Reference point: iou 0, latency 2,000 ms.",
        "latency: out of memory",
        "hwnas search --device board --seed 7",
        "search 7",
        "hwnas 0.1.0",
        "204.8 GB/s recalled memory",
        "1 prompt",
        "0.812 ± 0.013",
    ):
        squeezed = words.replace(" ", "")
        assert squeezed in text.replace(" ", ""), words


def test_every_place_of_a_latency_says_that_it_is_estimated(make_data) -> None:
    payload = page_payload(make_data())
    designs = [*payload["front"], *payload["references"], *payload["evaluated"]]
    designs += [d for baseline in payload["baselines"] for d in baseline["designs"]]
    assert len(designs) == 9
    assert all(design["texts"][1].endswith(", estimated") for design in designs)
    assert payload["costs"][1]["title"] == "latency (ms), estimated"


def test_the_page_has_a_row_for_each_design_that_can_be_sorted(page, make_data) -> None:
    found = page(make_data())
    rows = [a["data-arch"] for tag, a in found.tags if tag == "tr" and "tabindex" in a]
    assert rows == ["arch0", "arch1", "arch2"]
    numbers = [float(a["data-value"]) for tag, a in found.tags if a.get("data-value")]
    assert {0.9, 1234.5, 2.5, 0.8123} <= set(numbers)
    buttons = [a["data-cost"] for tag, a in found.tags if tag == "button"]
    assert buttons == ["", "iou", "latency", "model_size", "iou_boxes"]


def test_nothing_a_plugin_names_becomes_markup(page, make_data, costs) -> None:
    design = Evaluation(
        NASTY, {NASTY: NASTY}, {NASTY: 1.0}, breakdown={NASTY: {NASTY: 1.0}}, index=0
    )
    data = make_data(
        title=NASTY,
        command=NASTY,
        config=NASTY,
        space_name=NASTY,
        device_name=NASTY,
        costs=(replace(costs["latency"], name=NASTY, unit=NASTY, fidelity=NASTY, note=NASTY),),
        evaluations=(design, Evaluation("b", {}, {}, "failed", NASTY, index=1)),
        front=(NASTY,),
        selected={NASTY: NASTY},
        references={NASTY: design},
        baselines={NASTY: (design,)},
        rescorings=(replace(make_data().rescorings[0], name=NASTY, values={NASTY: (1.0, 0.1)}),),
        notes=(NASTY,),
    )
    found = page(data)
    plain = page(make_data())
    assert found.text.count("alert('x')") > 20
    assert [tag for tag, _ in found.tags if tag == "script"] == ["script"] * 7
    assert {tag for tag, _ in found.tags} <= {tag for tag, _ in plain.tags}
    assert not [a for _, attributes in found.tags for a in attributes if a.startswith("on")]
    assert found.payload["front"][0]["label"] == NASTY


def test_the_file_loads_nothing(make_data, tmp_path: Path) -> None:
    write_html(make_data(), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert 4e6 < len(text) < 7e6  # plotly.js once
    found = Page(text)
    assert not [a for _, a in found.tags if {"src", "href", "data", "action"} & a.keys()]
    assert not re.search(r"@import|url\(", "".join(re.findall(r"<style>.*?</style>", text)))
    (policy,) = [a["content"] for _, a in found.tags if "http-equiv" in a]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert 'plotlyServerURL: ""' in text
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_an_empty_front_is_said(page, make_data) -> None:
    found = page(make_data(front=(), selected={}, rescorings=()))
    assert "no evaluated design meets the limits" in found.text
    assert found.payload["front"] == []
    assert len(found.payload["evaluated"]) == 4


def test_a_run_in_which_everything_failed(page, make_data, tmp_path: Path) -> None:
    failed = make_data().failed
    data = make_data(evaluations=failed, front=(), selected={}, references={}, baselines={})
    assert "No evaluation succeeded." in page(data).text
    write_png(data, tmp_path / "front.png")


def test_equal_failures_are_counted(page, make_data) -> None:
    failed = tuple(Evaluation(f"x{i}", {}, {}, "failed", "no", index=i) for i in range(5, 1205))
    data = make_data(evaluations=(*make_data().evaluations, *failed))
    text = page(data).text.replace(" ", "")
    assert "Failedevaluations(1,201)" in text
    assert "1,200x5no" in text


def test_many_evaluations_are_thinned_evenly_and_the_page_says_so(page, make_data) -> None:
    first = make_data().evaluations[0]
    many = tuple(replace(first, arch_id=f"m{i}", index=i) for i in range(2 * MOST_DOTS + 1))
    data = make_data(evaluations=(*make_data().evaluations, *many))
    found = page(data)
    dots = found.payload["evaluated"]
    assert MOST_DOTS / 2 < len(dots) <= MOST_DOTS
    assert "even sample" in found.text


@pytest.mark.parametrize(
    ("names", "panels"),
    [
        (["latency"], 1),
        (["iou", "latency"], 1),
        (["iou", "latency", "bitops"], 3),
        (["iou", "latency", "bitops", "model_size"], 3),
    ],
)
def test_any_number_of_objectives(names, panels, page, make_data, costs, tmp_path: Path) -> None:
    chosen = tuple(replace(costs[name], is_objective=True) for name in names)
    data: ReportData = make_data(costs=chosen, selected={})
    found = page(data)
    assert [cost["name"] for cost in found.payload["costs"]] == names
    assert all(cost["objective"] for cost in found.payload["costs"])
    assert ("Pareto front" in found.text) == (len(names) > 1)
    if len(names) == 3:
        return  # the picture is that of four objectives
    write_png(data, tmp_path / "front.png")
    head = (tmp_path / "front.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", head[16:24]) == (960 * panels, 780)


def test_the_picture_survives_formulas_and_underscores(make_data, costs, tmp_path: Path) -> None:
    odd = replace(costs["latency"], unit="$x^", note="_")
    write_png(make_data(title="_$\\frac{", costs=(costs["iou"], odd)), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_genes_are_arranged_by_container_choice_and_index(make_data) -> None:
    layout = grid_layout(make_data().genes)
    assert layout["singles"] == [0, 1]
    (grid,) = layout["grids"]
    assert (grid["title"], grid["columns"]) == ("blocks", [0, 1])
    assert grid["rows"] == [{"label": "w_bits", "cells": [2, 3]}]


def test_genes_of_dropped_blocks_are_absent_and_parts_add_up(make_data) -> None:
    payload = page_payload(make_data())
    deep, _, shallow = payload["front"]
    assert deep["genes"] == [256, 2, 8, 7]
    assert shallow["genes"] == [256, 1, 8, None]
    assert [name for name, *_ in deep["parts"][1]] == ["blocks.0", "blocks.1"]
    assert sum(value for _, value, _ in deep["parts"][1]) == pytest.approx(1234.5)
    assert deep["parts"][0] is None


def test_a_limit_is_drawn_in_the_unit_that_is_shown(make_data) -> None:
    (limit,) = page_payload(make_data())["limits"]
    assert limit == {"cost": 1, "bound": 20.0, "text": "limit ≤ 20 ms"}


@pytest.mark.parametrize("write", [write_html, write_png])
def test_a_folder_that_cannot_be_written(write, make_data, costs, tmp_path: Path) -> None:
    data = make_data(costs=(costs["latency"],), evaluations=make_data().evaluations[:3])
    with pytest.raises(RunError, match="cannot write"):
        write(data, tmp_path / "missing" / "file")
