"""Networks trained from scratch: lines that the study of proxies reads, resume, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hwnas.errors import ConfigError, DataError, Interrupted, RunError
from hwnas.records import read_subnets
from hwnas.space import SearchSpace
from hwnas.supernet.scratch import Recipe
from hwnas.workflows.study_proxies import ProxyOptions, study_proxies
from hwnas.workflows.study_scratch import ScratchOptions, ScratchStudy, study_scratch
from hwnas.workflows.study_scratch import study as module
from search_spaces.mobile_cnn import tile_cnn, tile_cnn_mask
from tests.supernet.scratch.dots import dots_folder

FIXED = {"stages.*.depth": 1, "stages.*.kernel": 3, "stages.*.expansion": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dots_folder(tmp_path_factory.mktemp("data") / "dots")


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return tile_cnn().freeze(FIXED)


def options(archs: str = "random:3", *, steps: int = 3, **more: Any) -> ScratchOptions:
    return ScratchOptions(
        archs=archs, tiles=32, val_tiles=16, span=48,
        recipe=Recipe(steps=steps, batch=8, max_seconds=more.pop("max_seconds", 60)), **more,
    )  # fmt: skip


def without_times(study: ScratchStudy) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in study.lines]


@pytest.mark.parametrize("make", [tile_cnn, tile_cnn_mask], ids=lambda m: m.__name__)
def test_the_study_of_proxies_reads_what_it_writes(make: Any, data: Path, tmp_path: Path) -> None:
    own = make().freeze(FIXED)
    out = tmp_path / "out"
    study = study_scratch(own, out=out, data=data, options=options("random:12"))
    rows = read_subnets(out / "subnets.jsonl")
    assert [row.arch_id for row in rows] == [line["arch_id"] for line in study.lines]
    assert {(row.split, row.images) for row in rows} == {("val", 3)}
    assert all(0 < row.objects <= 16 for row in rows)
    assert study.metric == ("accuracy" if own.name == "tile-cnn" else "foreground IoU")
    assert all(0 <= row.iou <= 1 and row.bitops > 0 for row in rows)
    costs = ("zico_bc", "bitops")
    judged = study_proxies(
        own, subnets=out / "subnets.jsonl", data=data,
        options=ProxyOptions(
            costs=costs, bootstrap=0, options={"zico_bc": {"mode": "paper", "batch_images": 4}}
        ),
    )  # fmt: skip
    assert not judged.failed
    assert len(judged.subnets) == len(rows)


def test_a_study_goes_on_where_it_was_stopped(
    space: SearchSpace, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = study_scratch(space, out=tmp_path / "whole", data=data, options=options())
    trained, train = 0, module.train

    def stopped(*given: Any) -> Any:
        nonlocal trained
        trained += 1
        if trained == 2:
            raise KeyboardInterrupt
        return train(*given)

    out = tmp_path / "out"
    monkeypatch.setattr(module, "train", stopped)
    with pytest.raises(Interrupted, match="go on with --resume"):
        study_scratch(space, out=out, data=data, options=options())
    assert len(read_subnets(out / "subnets.jsonl")) == 1
    with (out / "measurements.jsonl").open("a") as file:
        file.write('{"key": "network/torn')  # as a kill leaves it
    again = study_scratch(space, out=out, data=data, options=options(), resume=True)
    assert trained == 4
    assert without_times(again) == without_times(whole)
    more = study_scratch(
        space, out=out, data=data, options=options("random:2", seeds=2), resume=True
    )
    assert trained == 6
    assert len(more.lines) == 5
    assert more.summary()["noise"] is not None
    assert again.summary()["noise"] is None


def test_a_network_that_takes_too_long_is_left_out(
    space: SearchSpace, data: Path, tmp_path: Path
) -> None:
    slow = options("random:2", steps=10**6, max_seconds=0.05)
    study = study_scratch(space, out=tmp_path / "out", data=data, options=slow)
    assert not study.lines
    assert len(study.failed) == 2
    assert all("steps in 0.05 s" in reason for reason in study.failed.values())
    assert (tmp_path / "out" / "subnets.jsonl").read_text() == ""
    assert study.summary()["lowest"] is None


def test_what_was_begun_otherwise_is_not_mixed(
    space: SearchSpace, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    study_scratch(space, out=out, data=data, options=options("random:1"))
    with pytest.raises(RunError, match="exists already"):
        study_scratch(space, out=out, data=data, options=options("random:1"))
    with pytest.raises(RunError, match="steps: began with 3, now 4"):
        study_scratch(space, out=out, data=data, options=options(steps=4), resume=True)


def test_refusals_leave_nothing_behind(space: SearchSpace, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def refused(kind: type[Exception], words: str, **given: Any) -> None:
        with pytest.raises(kind, match=words):
            study_scratch(**{"space": space, "data": data, "options": options(), **given}, out=out)
        assert not out.exists()

    plain = tmp_path / "plain"
    dots_folder(plain)
    (plain / "split.csv").unlink()
    refused(DataError, "names no splits", data=plain)
    refused(ConfigError, "networks of mobile-cnn cannot be trained", space="mobile-cnn")
    drawn = options("random:1", split_seed=3)
    study = study_scratch(space, out=tmp_path / "drawn", data=plain, options=drawn)
    assert len(study.lines) == 1
    with pytest.raises(ConfigError, match=r"--seeds 0.*--tiles 1"):
        ScratchOptions(seeds=0, tiles=1)


def test_the_embedded_picture_will_do_for_a_try(space: SearchSpace, tmp_path: Path) -> None:
    study = study_scratch(space, out=tmp_path / "out", options=options("random:1"))
    assert any("one picture" in note for note in study.notes)
    assert json.loads(json.dumps(study.to_json()))["summary"]["trainings"] == 1
