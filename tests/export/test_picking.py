"""Which design of a run is exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwnas.errors import ArchError, ConfigError, InfeasibleError, RunError
from hwnas.export.picking import pick, read_front
from hwnas.records import RunFolder
from hwnas.search import ParetoFront
from hwnas.search.designs import Column, Designs
from hwnas.space import load_space

SPACE = load_space("toy")
COLUMNS = (
    Column("quality", "IoU", "max", "predicted"),
    Column("latency", "ms", "min", "estimated"),
    Column("size", "B", "min", "analytic", objective=False),
)


def _front() -> ParetoFront:
    archs = SPACE.sample(np.random.default_rng(0), 4)
    values = np.array([[0.9, 40, 4], [0.85, 20, 3], [0.6, 15, 2], [0.5, 10, 1]])
    lo, hi = np.full_like(values, np.nan), np.full_like(values, np.nan)
    lo[1, 1], hi[1, 1] = 15, 25
    return ParetoFront(Designs(archs, COLUMNS, values, lo, hi))


def _folder(path: Path, *, front: str | None) -> RunFolder:
    folder = RunFolder.create(
        path, config={"space": "toy"}, command="hwnas search", seeds={}, inputs={}, environment={}
    )
    if front is not None:
        folder.write_text("front.json", front)
    return folder


def test_a_front_comes_back_from_its_run(tmp_path: Path) -> None:
    front = _front()
    with _folder(tmp_path / "run", front=front.to_json()) as folder:
        found = read_front(folder, SPACE)
    assert found.ids == front.ids
    assert found.columns == front.columns
    assert np.array_equal(found.values, front.values)
    assert found.intervals == front.intervals


def test_the_knee_is_the_fronts() -> None:
    front = _front()
    assert pick(front, "knee").id == front.knee().id == front.ids[1]


def test_the_best_quality_within_a_limit_on_its_pessimistic_end() -> None:
    front = _front()
    assert pick(front, "latency<=30").id == front.ids[1]
    assert pick(front, "latency<=24").id == front.ids[2]  # 20 ms may be 25
    assert pick(front, "latency<=30,size<=2").id == front.ids[2]


def test_an_id_or_its_beginning() -> None:
    front = _front()
    for arch_id in front.ids:
        assert pick(front, arch_id).id == arch_id
    beginning = next(front.ids[2][:n] for n in range(1, 13)
                     if sum(i.startswith(front.ids[2][:n]) for i in front.ids) == 1)  # fmt: skip
    assert pick(front, beginning).id == front.ids[2]


def test_what_cannot_be_picked_is_explained() -> None:
    front = _front()
    with pytest.raises(ArchError, match=rf"--pick zzz: no design .* {front.ids[0]}"):
        pick(front, "zzz")
    with pytest.raises(ArchError, match="4 designs of the front"):
        pick(front, "")
    with pytest.raises(ConfigError, match="'energy' was not evaluated"):
        pick(front, "energy<=3")
    with pytest.raises(ConfigError, match="not of the form"):
        pick(front, "latency<20")
    with pytest.raises(InfeasibleError, match="latency"):
        pick(front, "latency<=5")


def test_a_run_without_a_front_and_a_damaged_one(tmp_path: Path) -> None:
    with _folder(tmp_path / "a", front=None) as folder, pytest.raises(RunError, match="no front"):
        read_front(folder, SPACE)
    with (
        _folder(tmp_path / "b", front='{"columns": []}') as folder,
        pytest.raises(RunError, match=r"front\.json is damaged"),
    ):
        read_front(folder, SPACE)
