"""Fronts: picking a design, tables with units and intervals, files."""

import csv
import io
import json

import numpy as np
import pytest

from hwnas.errors import ConfigError, InfeasibleError
from hwnas.search import Column, Designs, Limit, ParetoFront
from hwnas.space import SearchSpace, ordinal, repeat

COLUMNS = (
    Column("quality", "score", "max", "proxy"),
    Column("latency", "ms", "min", "estimated"),
    Column("size_bytes", "bytes", "min", "analytic", objective=False),
)


@pytest.fixture
def front() -> ParetoFront:
    space = SearchSpace(
        "s",
        [ordinal("depth", (1, 2)), repeat("b", 2, [ordinal("bits", (2, 4, 8))], depth="depth")],
    )
    values = np.array([[0.9, 40.0, 9.0], [0.85, 12.0, 8.0], [0.5, 10.0, 7.0], [0.1, 9.0, 6.0]])
    lo, hi = np.full((4, 3), np.nan), np.full((4, 3), np.nan)
    lo[:, 1], hi[:, 1] = values[:, 1] * 0.8, values[:, 1] * 1.5
    archs = space.decode([[1, 2, 2], [1, 1, 1], [0, 1, 2], [0, 0, 2]])
    return ParetoFront(Designs(archs, COLUMNS, values, lo, hi))


def test_best_in_each_objective(front: ParetoFront) -> None:
    assert front.best().id == front.best("quality").id == front.ids[0]
    assert front.best("latency").id == front.ids[3]
    assert front.best("quality", ["latency<=20"]).id == front.ids[1]  # 12 ms, at worst 18
    assert front.best("quality", ["latency<=15"]).id == front.ids[2]
    assert front.best("quality", [Limit.parse("latency<=13", on="point")]).id == front.ids[1]
    assert front.best("latency", ["quality>=0.5", "size_bytes<=7"]).values["quality"] == 0.5


def test_no_design_within_the_limits(front: ParetoFront) -> None:
    with pytest.raises(InfeasibleError) as caught:
        front.best("quality", ["latency<=12", "quality>=0.4"])
    text = str(caught.value)
    assert "latency<=12: the best value seen is 13.5 ms at the worse end" in text
    assert f"quality>=0.4: the best value seen is 0.9 score (design {front.ids[0]})" in text
    assert f"nearest to keeping all: design {front.ids[2]} with quality=0.5" in text
    assert "--limit-on point" in text
    with pytest.raises(ConfigError, match="'iou' was not evaluated; evaluated: quality, latency"):
        front.best("quality", ["iou>=0.5"])
    with pytest.raises(ConfigError, match="'speed' was not evaluated"):
        front.best("speed")


def test_the_knee_is_farthest_from_the_line_through_the_ends(front: ParetoFront) -> None:
    assert front.knee().id == front.ids[1]
    f = front.values[:, :2] * [-1, 1]
    scaled = (f - f.min(axis=0)) / np.ptp(f, axis=0)
    distance = (1 - scaled.sum(axis=1)) / np.sqrt(2)  # from the line x + y = 1
    assert int(distance.argmax()) == 1
    alone = ParetoFront(front.designs.take([2]))
    assert alone.knee().id == front.ids[2]
    with pytest.raises(InfeasibleError, match="front is empty"):
        ParetoFront(front.designs.take([])).knee()


def test_rows_have_units_fidelity_and_intervals(front: ParetoFront) -> None:
    row = front.rows()[2]
    assert list(row) == [
        "arch_id",
        "quality_score", "quality_score_lo", "quality_score_hi", "quality_fidelity",
        "latency_ms", "latency_ms_lo", "latency_ms_hi", "latency_fidelity",
        "size_bytes", "size_bytes_lo", "size_bytes_hi", "size_bytes_fidelity",
        "gene.depth", "gene.b.0.bits", "gene.b.1.bits",
    ]  # fmt: skip
    assert row["latency_ms"] == 10.0
    assert (row["latency_ms_lo"], row["latency_ms_hi"]) == (8.0, 15.0)
    assert row["quality_score_lo"] is None
    assert row["latency_fidelity"] == "estimated"
    assert (row["gene.depth"], row["gene.b.0.bits"], row["gene.b.1.bits"]) == (1, 4, None)


def test_files_say_the_same_as_the_front(front: ParetoFront) -> None:
    read = list(csv.DictReader(io.StringIO(front.to_csv())))
    assert [row["arch_id"] for row in read] == list(front.ids)
    assert [float(row["latency_ms"]) for row in read] == front.values[:, 1].tolist()
    assert read[3]["gene.b.1.bits"] == ""
    found = json.loads(front.to_json())
    assert found["space"] == "s"
    assert found["columns"][0] == {
        "name": "quality", "unit": "score", "direction": "max", "fidelity": "proxy",
        "objective": True,
    }  # fmt: skip
    assert found["designs"][1]["intervals"] == {"latency": [12.0 * 0.8, 18.0]}
    assert found["designs"][3]["genes"] == {"depth": 1, "b.0.bits": 2}
    table = front.to_pandas() if pytest.importorskip("pandas") else None
    assert table["latency_ms"].tolist() == front.values[:, 1].tolist()
    assert ParetoFront(front.designs.take([])).to_csv() == "arch_id\n"


def test_the_public_face(front: ParetoFront) -> None:
    assert front.names == ("quality", "latency", "size_bytes")
    assert front.units == ("score", "ms", "bytes")
    assert front.directions == ("max", "min", "min")
    assert front.intervals[0] == {"latency": (32.0, 60.0)}
    assert [design.id for design in front] == list(front.ids)
    assert len(front) == 4
    with pytest.raises(IndexError, match="design 4 of 4"):
        front[4]


def test_plot_shows_both_objectives(front: ParetoFront) -> None:
    pytest.importorskip("plotly")
    figure = front.plot()
    assert list(figure.data[0].x) == front.values[:, 0].tolist()
    assert list(figure.data[0].y) == front.values[:, 1].tolist()
    assert figure.layout.yaxis.title.text == "latency [ms] (estimated)"
