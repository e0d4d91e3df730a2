"""The effective-search-space study on a tiny SAM: figures, resume, refusals."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.data.labeled import LabeledImage
from hwnas.errors import ConfigError, Interrupted, RunError
from hwnas.records import read_subnets
from hwnas.space import SearchSpace
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.sensitivity import ChangeNoise
from hwnas.workflows.study.measure import Measured
from hwnas.workflows.study.space import SpaceStudy, StudyOptions, study_space
from hwnas.workflows.study.verdict import Point, best_axis, judged, pair_gain, with_steps
from search_spaces.sam import sam_space, sam_vit_b, sam_vit_t
from tests.supernet.elastic_models import TINY, calibrated

OPTIONS = StudyOptions(sensitivity_images=2, top=4, archs_per_value=2)


def images(n: int = 2) -> list[LabeledImage]:
    rng = np.random.default_rng(0)
    found = []
    for i in range(n):
        ids = np.zeros((48, 64), dtype=np.int32)
        ids[4:20, 6:30], ids[25:44, 30 + i : 60] = 1, 2
        pixels = np.asarray(rng.integers(0, 80, (48, 64, 3)) + 100 * (ids > 0)[..., None], np.uint8)
        found.append(LabeledImage(f"image {i}", pixels, ids))
    return found


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return sam_space(TINY)


@pytest.fixture(scope="module")
def supernet() -> SamSupernet:
    return calibrated()


@pytest.fixture(scope="module")
def done(
    space: SearchSpace, supernet: SamSupernet, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SpaceStudy, Path]:
    out = tmp_path_factory.mktemp("study") / "run"
    return study_space(space, out=out, supernet=supernet, data=images(), options=OPTIONS), out


def test_every_operator_is_studied_and_eta_is_loss_per_halving(
    done: tuple[SpaceStudy, Path],
) -> None:
    study, _ = done
    operators = {point.operator for point in study.points}
    assert operators == {"resolution", "feature size", "depth", "width", "bit-width"}
    assert {p.axis for p in study.points if p.operator == "feature size"} == {"token_grid", "dim"}
    for p in study.points:
        assert p.halvings == pytest.approx(math.log2(study.largest["gbitops"] / p.gbitops))
        assert p.halvings > 0
        assert p.loss == pytest.approx(100 * (study.largest["iou"] - (p.iou or 0)))
        assert p.eta == pytest.approx((p.loss or 0) / p.halvings)
        assert (p.float_loss is None) == (p.operator == "bit-width")
        assert p.context_loss is not None or p.forced  # a constraint may forbid every draw
        assert p.kept is not None
    (narrow, *_) = [p for p in study.points if p.axis == "dim"]
    assert "blocks.*.heads" in narrow.forced


def test_points_are_archs_of_the_space_with_its_bitops(
    done: tuple[SpaceStudy, Path], space: SearchSpace
) -> None:
    study, out = done
    lines = [json.loads(line) for line in (out / "measurements.jsonl").read_text().splitlines()]
    subnets = {line["arch_id"]: line for line in lines if line["key"].startswith("subnet/")}
    for p in study.points:
        line = subnets[p.arch_id]
        assert line["iou"] == p.iou
        assert line["bitops"] == pytest.approx(p.gbitops)
        if p.operator != "feature size":
            assert space.arch(line["genes"]).id == p.arch_id


def test_single_changes_cover_every_layer_and_equal_whole_passes(
    done: tuple[SpaceStudy, Path], space: SearchSpace, supernet: SamSupernet
) -> None:
    study, out = done
    assert len(study.layers) == TINY.depth * (8 * 3 + 1)
    assert sum(row.loss is not None for row in study.layers) == 3  # one of each bit-width, 4 // 3
    row = next(r for r in study.layers if r.operand == "lin2.a" and r.bits == 2)
    top = space.largest()
    lowered = space.arch({**top.genes, row.gene: 2})
    added = []
    noise = ChangeNoise(supernet, images(), supernet.plan(top))
    for place in range(2):
        ratios = dict(noise.ratios(place, [supernet.plan(top), supernet.plan(lowered)]))
        added.append(ratios[1] - ratios[0])
    assert row.nsr == pytest.approx(np.mean(added))
    with (out / "sensitivity.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [r["attention"] for r in table] == ["windowed", "global", "windowed", "global"]
    assert float(table[row.block]["nsr lin2.a=2"]) == pytest.approx(row.nsr, rel=1e-4)


def test_the_folder_holds_tables_and_pictures(done: tuple[SpaceStudy, Path]) -> None:
    study, out = done
    for name in ("axes.png", "sensitivity.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "space_study.json").read_text()) == json.loads(
        json.dumps(study.to_json())
    )
    text = (out / "space_study.md").read_text()
    assert "| heads | 2 |" in text
    assert "```yaml\nbase: tiny" in text
    assert [h.verdict for h in study.hypotheses].count("not answered") == 0
    subnets = read_subnets(out / "evaluations.jsonl")
    assert {p.arch_id for p in study.points if p.operator == "width"} <= {
        s.arch_id for s in subnets
    }
    assert not any("token_grid" in s.genes or "dim" in s.genes for s in subnets)


def test_kept_options_hold_the_largest_and_those_of_kept_values(
    done: tuple[SpaceStudy, Path], space: SearchSpace
) -> None:
    study, _ = done
    assert study.kept is not None
    for gene, options in study.kept.items():
        if gene in {g.name for g in space.genes}:
            assert options[-1] == space.gene(gene).options[-1]
    for p in study.points:
        if p.axis == "resolution":
            assert (p.value in study.kept["resolution"]) is p.kept


def test_a_study_resumed_after_a_kill_is_the_undisturbed_one(
    done: tuple[SpaceStudy, Path], space: SearchSpace, supernet: SamSupernet, tmp_path: Path
) -> None:
    study, out = done
    again = tmp_path / "run"
    again.mkdir()
    (again / "settings.json").write_text((out / "settings.json").read_text())
    lines = (out / "measurements.jsonl").read_text().splitlines(keepends=True)
    half = len(lines) // 2
    (again / "measurements.jsonl").write_text("".join(lines[:half]) + lines[half][:40])
    arguments: dict[str, Any] = {"supernet": supernet, "data": images(), "options": OPTIONS}
    resumed = study_space(space, out=again, resume=True, **arguments)
    assert resumed.to_json() == study.to_json()
    assert sorted((again / "measurements.jsonl").read_text().splitlines(keepends=True)) == sorted(
        lines
    )
    with pytest.raises(RunError, match="exists already"):
        study_space(space, out=again, **arguments)
    other = {**arguments, "options": StudyOptions(prompt="point")}
    with pytest.raises(RunError, match="prompt: began with 'box', now 'point'"):
        study_space(space, out=again, resume=True, **other)


def test_ctrl_c_says_how_to_go_on(
    space: SearchSpace, supernet: SamSupernet, tmp_path: Path
) -> None:
    class Impatient:
        def begin(self, stage: str, total: int | None) -> None:
            pass

        def advance(self, done: int, **figures: float) -> None:
            if done == 2:
                raise KeyboardInterrupt

        def remark(self, sentence: str) -> None:
            pass

    with pytest.raises(Interrupted, match=r"2 measurements .* --resume"):
        study_space(
            space, out=tmp_path / "run", supernet=supernet, data=images(1), watch=Impatient()
        )


def test_synthetic_weights_are_measured_and_not_quoted(
    space: SearchSpace, supernet: SamSupernet, tmp_path: Path
) -> None:
    options = StudyOptions(synthetic=True, axes=("heads",), sensitivity_images=1, top=0)
    study = study_space(
        space, out=tmp_path / "run", supernet=supernet, data=images(1), options=options
    )
    assert any("synthetic" in note for note in study.notes)
    assert all(p.iou is None and p.loss is None and p.kept is None for p in study.points)
    assert (study.layers, study.hypotheses, study.proposed) == ((), (), None)
    assert study.largest["iou"] is None
    assert not (tmp_path / "run" / "proposed_space.yaml").exists()
    assert not list((tmp_path / "run").glob("*.png"))


@pytest.mark.parametrize("build", [sam_vit_t, sam_vit_b])
def test_bitops_alone_need_no_weights(build: Any, tmp_path: Path) -> None:
    study = study_space(build(), out=tmp_path / "run", options=StudyOptions(quality=False))
    values = [(p.axis, p.value) for p in study.points]
    assert ("bits", 4) in values
    assert ("token_grid", "1") in values
    if study.space == "sam-vit-b":  # section 5.3 of the specification, W4A4 attn4 at 1024
        four = next(p for p in study.points if (p.axis, p.value) == ("bits", 4))
        assert four.gbitops * 1e9 == pytest.approx(8086458728448, abs=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"axes": ("hads",)}, "no such axis.*nearest: heads"),
        ({"prompt": "circle"}, "--prompt circle: expected box or point"),
        ({"max_images": 0, "top": -1}, "--max-images 0: expected 1 or more; --top -1"),
        ({"tolerance": float("nan")}, "--tolerance nan"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        study_space(sam_vit_t(), out=tmp_path / "run", options=StudyOptions(**options))
    assert not (tmp_path / "run").exists()


def test_a_supernet_of_another_size_is_refused(supernet: SamSupernet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="GMACs"):
        study_space(sam_vit_t(), out=tmp_path / "run", supernet=supernet)
    with pytest.raises(ConfigError, match=r"names no supernet.*--no-quality"):
        study_space("mobile-cnn", out=tmp_path / "run")


def measured(iou: float) -> Measured:
    return Measured(iou, None, np.array([iou]))


def point(axis: str, operator: str, gbitops: float, iou: float) -> Point:
    halvings = math.log2(100 / gbitops)
    loss = 100 * (0.9 - iou)
    return Point(
        axis, operator, axis, gbitops, "id", gbitops, gbitops, halvings,
        iou=iou, loss=loss, eta=loss / halvings,
    )  # fmt: skip


def test_values_near_the_front_are_kept_and_a_pair_can_save_others() -> None:
    points = [
        point("bits", "bit-width", 50, 0.895),
        point("bits", "bit-width", 25, 0.88),
        point("heads", "width", 80, 0.885),  # 1.0 below bits at 50, which are cheaper
        point("heads", "width", 60, 0.87),
        point("resolution", "resolution", 10, 0.7),
    ]
    found = judged(points, measured(0.9), tolerance=1.05, max_loss=10)
    assert [p.kept for p in found] == [True, True, True, False, False]
    assert found[3].front_gap == pytest.approx(2.5)
    assert "more than 10 points" in found[4].why
    assert best_axis(points, 1) == "bits"
    assert best_axis(points, 1, without="bit-width") == "heads"  # by eta: nothing is within 1
    assert best_axis(points, 25, without="bit-width") == "resolution"  # by what it saves
    found[3] = replace(found[3], pair="bits", pair_gain=0.4)
    assert judged(found, measured(0.9), tolerance=1.05, max_loss=10)[3].kept is True
    steps = with_steps(points)
    assert steps[1].step_eta == pytest.approx(1.5)  # from 50 to 25 GBitOPs, 0.5 to 2 points


def test_pair_gain_compares_at_equal_bitops() -> None:
    alone = [(100.0, 0.9), (50.0, 0.7), (25.0, 0.8)]  # the second is not on the front
    assert pair_gain(50, 0.85, alone) == pytest.approx(0)  # halfway in log BitOPs
    assert pair_gain(50, 0.86, alone) == pytest.approx(1)
    assert pair_gain(10, 0.81, alone) == pytest.approx(1)
    assert pair_gain(10, 0.79, alone) is None  # cheaper and worse: cannot be compared
