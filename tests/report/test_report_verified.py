"""Predicted against measured: in words, as a table, as a drawing, as files."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hwnas.errors import RunError
from hwnas.records import Verification, VerifiedDesign
from hwnas.report import ReportData
from hwnas.report.html import report_html
from hwnas.report.verified import verified

FOUND = Verification(
    cost="latency", unit="ms", fidelity="predicted", runner="tvm 0.27", fingerprint="board | maxn",
    prompts=2, wanted=4,
    designs=(
        VerifiedDesign(arch_id="arch0", predicted=10.0, lo=9.0, hi=11.0, measured=10.5),
        VerifiedDesign(arch_id="arch1", predicted=19.0, lo=18.0, hi=20.0, measured=22.8,
                       status="noisy", message="2 clean", broken=("latency<=20",)),
        VerifiedDesign(arch_id="arch2", predicted=3.0, status="failed", message="took > 60 s"),
    ),
)  # fmt: skip


def test_json_comes_back_equal_and_csv_has_a_row_a_design() -> None:
    assert Verification.from_json(FOUND.to_json()) == FOUND
    rows = list(csv.DictReader(io.StringIO(FOUND.to_csv())))
    assert [row["arch_id"] for row in rows] == ["arch0", "arch1", "arch2"]
    assert [row["inside"] for row in rows] == ["True", "False", ""]
    assert float(rows[1]["difference_pct"]) == pytest.approx(20.0)
    assert (rows[1]["broken"], rows[2]["measured"]) == ("latency<=20", "")


def test_a_damaged_file_is_explained() -> None:
    with pytest.raises(RunError, match=r"verified\.json is damaged"):
        Verification.from_json(FOUND.to_json()[:100])


def test_the_sentences_name_what_is_broken_failed_and_missing() -> None:
    verdict, broken, failed, missing = FOUND.sentences()
    assert "12.5 % on average, 20.0 % at most, 1 of 2 inside" in verdict
    assert "limit latency<=20 is broken by design arch1" in broken
    assert "19 ms predicted, 22.8 ms measured" in broken
    assert failed == "Design arch2 could not be measured: took > 60 s"
    assert missing == "3 of 4 designs are measured so far."


def test_the_page_has_the_section_only_where_something_was_measured(
    make_data: Callable[..., ReportData],
) -> None:
    page = report_html(make_data(verified=FOUND, notes=FOUND.sentences()))
    for words in ("Predicted and measured", "latency&lt;=20 is broken", "+20.0 %", "22.8 (noisy)",
                  "took &gt; 60 s", "2 prompts"):  # fmt: skip
        assert words in page
    assert "Predicted and measured" not in report_html(make_data())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 12.5, 1e4])
def test_the_drawing_stays_inside_its_box(scale: float) -> None:
    designs = tuple(
        VerifiedDesign(arch_id="a", predicted=scale * p, lo=scale, hi=4 * scale, measured=scale * m)
        for p, m in ((1, 5), (3.7, 0.1))
    )
    (drawing,) = [p for p in verified(_with(designs)) if "<svg" in p]
    svg = ET.fromstring(drawing).find("svg")
    assert svg is not None
    width, height = float(svg.attrib["width"]), float(svg.attrib["height"])
    for mark in svg:
        x = float(mark.get("x") or mark.get("cx") or mark.get("x2") or "nan")
        y = float(mark.get("y") or mark.get("cy") or mark.get("y2") or "nan")
        assert 0 <= x <= width
        assert 0 <= y <= height
    assert 2 <= sum(mark.tag == "line" for mark in svg) <= 14


def test_no_drawing_where_nothing_could_be_measured() -> None:
    parts = verified(_with(FOUND.designs[2:]))
    assert not any("<svg" in part for part in parts)
    assert any("took" in part for part in parts)


def _with(designs: tuple[VerifiedDesign, ...]) -> Verification:
    return Verification(
        cost="latency", unit="ms", fidelity="predicted", runner="tvm", fingerprint="b", prompts=1,
        wanted=len(designs), designs=designs,
    )  # fmt: skip


def test_files_of_a_run(tmp_path: Path) -> None:
    from hwnas.records import RunFolder
    from hwnas.records.verified import read_verified, write_verified

    with RunFolder.create(
        tmp_path / "run", config={}, command="hwnas search", seeds={}, inputs={}
    ) as folder:
        assert read_verified(folder) is None
        write_verified(folder, FOUND)
        assert read_verified(folder) == FOUND
        assert (folder.path / "verified.csv").read_text() == FOUND.to_csv()


def test_a_device_that_is_slower_than_it_was_is_said_so() -> None:
    slow = replace(FOUND, designs=tuple(replace(d, slowdown=1.26) for d in FOUND.designs))
    (said,) = [s for s in slow.sentences() if "reference kernel" in s]
    assert f"Beside {len(slow.measured)} of them" in said
    assert "26 % longer than usual" in said
    steady = replace(FOUND, designs=tuple(replace(d, slowdown=1.02) for d in FOUND.designs))
    assert not any("reference kernel" in s for s in steady.sentences())
    assert type(slow).from_json(slow.to_json()) == slow
