"""The quality predictor: what it learns from, what it promises, what it refuses."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cost_models.quality_features import QualityFeatures
from cost_models.quality_labels import subnets_beside
from cost_models.quality_xgb import QualityXgb
from cost_models.toy_quality import ToyQuality
from hwnas.cost import CostContext
from hwnas.errors import CostError, DataError
from hwnas.space import Archs, SearchSpace
from hwnas.supernet.identity import supernet_identity
from hwnas.testing import check_cost_model
from search_spaces.sam import sam_vit_t
from search_spaces.toy import toy
from tests.cost_models.toy_subnets import write_subnets

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return toy()


@pytest.fixture
def write(tmp_path: Path, space: SearchSpace) -> Write:
    def make(n: int = 160, name: str = "subnets.jsonl", **more: Any) -> Path:
        return write_subnets(tmp_path / name, space, n, **{"split": "val", **more})

    return make


def test_it_orders_subnets_that_it_never_saw(space: SearchSpace, write: Write) -> None:
    model = QualityXgb(CostContext(space), archs=str(write()))
    report = model.fit_report()
    assert report is not None
    assert report.kendall_tau is not None
    assert report.kendall_tau > 0.75
    assert report.fitted_on + report.held_out == len(_lines(write()))
    assert report.held_out / (report.fitted_on + report.held_out) == pytest.approx(0.25, abs=0.01)
    assert "held-out subnets of subnets.jsonl" in str(report)
    archs = space.sample(np.random.default_rng(99), 200)
    true = ToyQuality(CostContext(space)).evaluate(archs)
    batch = model.estimate(archs)
    assert batch.lo is not None
    assert batch.hi is not None
    covered = ((batch.lo <= true) & (true <= batch.hi)).mean()
    assert 0.8 <= covered <= 0.99  # 90 % is meant


def test_it_keeps_every_promise_of_a_cost_model(space: SearchSpace, write: Write) -> None:
    context = CostContext(space)
    model = QualityXgb(context, archs=str(write()))
    assert model.monotone_in_bits
    assert check_cost_model(model, context) == []


def test_the_same_labels_give_the_same_bits_in_any_order(
    space: SearchSpace, write: Write, tmp_path: Path
) -> None:
    path = write()
    lines = _lines(path)
    other = tmp_path / "shuffled.jsonl"
    other.write_text("\n".join([*lines[80:], *lines[:80], *lines[:3]]))  # three are there twice
    archs = space.sample(np.random.default_rng(1), 50)
    one, two = (QualityXgb(CostContext(space), archs=str(p)).evaluate(archs) for p in (path, other))
    assert (one == two).all()


def test_trees_written_by_another_version_are_read(
    space: SearchSpace, write: Write, tmp_path: Path
) -> None:
    model = QualityXgb(CostContext(space), archs=str(write()))
    archs = space.sample(np.random.default_rng(1), 20)
    expected = model.estimate(archs)
    folder = tmp_path / "saved"
    folder.mkdir()
    model.save(folder)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".gz"}
    for path in folder.glob("member_*.json.gz"):
        content = json.loads(gzip.decompress(path.read_bytes()))
        other = json.dumps({**content, "version": [3, 0, 2]})
        path.write_bytes(gzip.compress(other.encode()))
    loaded = QualityXgb.load(folder, CostContext(space)).estimate(archs)
    assert (loaded.value == expected.value).all()
    assert loaded.lo is not None
    assert (loaded.lo == expected.lo).all()
    with pytest.raises(CostError, match="another space than sam-vit-t"):
        QualityXgb.load(folder, CostContext(sam_vit_t()))
    with pytest.raises(CostError, match="no quality predictor there"):
        QualityXgb.load(tmp_path, CostContext(space))


def test_other_pictures_shift_and_stretch_the_scale(space: SearchSpace, write: Write) -> None:
    """On the user's pictures qualities are 0.3 y + 0.1; sixteen of them tell."""
    true = ToyQuality(CostContext(space))
    model = QualityXgb(CostContext(space), archs=str(write()))
    own = space.sample(np.random.default_rng(3), 16).unique()
    model.fit(own, 0.3 * true.evaluate(own) + 0.1)
    others = space.sample(np.random.default_rng(4), 300)
    expected = 0.3 * true.evaluate(others) + 0.1
    assert np.abs(model.evaluate(others) - expected).mean() < 0.03
    alone = QualityXgb(CostContext(space)).fit(own, 0.3 * true.evaluate(own) + 0.1)
    far = np.abs(alone.evaluate(others) - expected).mean()
    assert np.abs(model.evaluate(others) - expected).mean() < far
    report = model.fit_report()
    assert report is not None
    assert "real evaluations and" in report.labels


def test_held_out_real_evaluations_judge_where_there_are_enough(
    space: SearchSpace, write: Write
) -> None:
    model = QualityXgb(CostContext(space), archs=str(write()))
    own = space.sample(np.random.default_rng(3), 40).unique()
    model.fit(own, ToyQuality(CostContext(space)).evaluate(own))
    report = model.fit_report()
    assert report is not None
    assert report.judged_on == "real evaluations"
    assert report.held_out >= round(len(own) / 4)  # and what is held out of the file


def test_an_arch_unlike_the_labels_is_an_extrapolation(space: SearchSpace) -> None:
    model = QualityXgb(CostContext(space))
    low = space.freeze({"resolution": 64}).sample(np.random.default_rng(0), 60).unique()
    model.fit(list(low), ToyQuality(CostContext(space)).evaluate(list(low)))
    known, unknown = model.estimate([low[0]]), model.estimate([space.largest()])
    assert not known.extrapolating[0]
    assert unknown.extrapolating[0]
    assert _width(unknown) > _width(known)


def test_a_restricted_space_learns_from_subnets_of_the_whole(
    space: SearchSpace, write: Write
) -> None:
    path = str(write())
    small = space.freeze({"resolution": 96})
    archs = small.sample(np.random.default_rng(0), 10)
    one = QualityXgb(CostContext(small), archs=path).evaluate(archs)
    assert (one == QualityXgb(CostContext(space), archs=path).evaluate(list(archs))).all()


def test_summaries_equal_their_definition() -> None:
    space = sam_vit_t()
    features = QualityFeatures(space)
    archs = space.sample(np.random.default_rng(0), 5)
    matrix = features.matrix(archs)
    assert matrix.shape == (5, len(features.names)) == (5, len(features.signs(("bits",))))
    for arch, row in zip(archs, matrix, strict=True):
        bits = [v for name, v in arch.genes.items() if name.endswith("bits")]
        here = dict(zip(features.names, row, strict=True))
        assert here["mean all bits"] == pytest.approx(np.mean(bits))
        assert here["least all bits"] == min(bits)
        assert here["noise all bits"] == pytest.approx(np.mean([4.0**-b for b in bits]))
        heads = [v for name, v in arch.genes.items() if name.endswith("heads")]
        assert here["mean blocks.*.heads"] == pytest.approx(np.mean(heads))
        kept = [v for name, v in arch.genes.items() if name.startswith("keep.")]
        assert len(kept) == 1 or here["mean keep.*"] == pytest.approx(np.mean(kept))
    signs = dict(zip(features.names, features.signs(("bits",)), strict=True))
    assert (signs["blocks.0.qkv.w_bits"], signs["noise all bits"], signs["resolution"]) == (
        1,
        -1,
        0,
    )


def test_files_that_do_not_belong_are_refused(
    space: SearchSpace, write: Write, tmp_path: Path
) -> None:
    def refused(path: Path, match: str, context: CostContext | None = None) -> None:
        with pytest.raises(DataError, match=match):
            QualityXgb(context or CostContext(space), archs=str(path)).evaluate([space.smallest()])

    refused(tmp_path / "none.jsonl", "cannot be read as evaluated subnets")
    refused(write(name="t.jsonl", split="test"), "must not learn from it")
    refused(write(name="p.jsonl", prompt="point"), "no subnet was evaluated with box prompts")
    refused(write(name="i.jsonl", arch_id="123456789abc"), "160|another version of it")
    damaged = write(name="d.jsonl")
    damaged.write_text(damaged.read_text() + '{"arch_id": "x"}\nnot json\n')
    refused(damaged, r"(?s)2 of \d+ lines are damaged.*no genes, iou")
    weights = torch.nn.Linear(2, 2)
    there = CostContext(space, supernet=lambda: weights)  # type: ignore[arg-type,return-value]
    refused(write(name="s.jsonl", supernet="0" * 16), "subnets of another supernet", there)
    same = write(name="o.jsonl", supernet=supernet_identity(weights))
    QualityXgb(there, archs=str(same)).evaluate([space.smallest()])
    other = CostContext(sam_vit_t())
    with pytest.raises(DataError, match="not subnets of the space sam-vit-t"):
        QualityXgb(other, archs=str(write())).evaluate([other.space.smallest()])


def test_what_it_cannot_learn_is_said(space: SearchSpace) -> None:
    model = QualityXgb(CostContext(space))
    assert model.fit_report() is None
    with pytest.raises(CostError, match="learned from nothing yet"):
        model.evaluate([space.smallest()])
    few = space.sample(np.random.default_rng(0), 5).unique()
    with pytest.raises(CostError, match="expected at least 8"):
        model.fit(few, np.linspace(0, 1, len(few)))
    with pytest.raises(CostError, match=r"prompt is 'mask'.*images is 0"):
        QualityXgb(CostContext(space), prompt="mask", images=0)  # type: ignore[arg-type]


def test_it_refines_itself_on_data_that_the_user_named(space: SearchSpace, write: Write) -> None:
    path = str(write())
    assert QualityXgb(CostContext(space), archs=path).refinement() is None
    assert QualityXgb(CostContext(space), archs=path).needs == ()
    own = QualityXgb(CostContext(space, data_source="pictures"), archs=path)
    assert own.needs == ("supernet", "data")
    plan = own.refinement()
    assert plan is not None
    assert (plan.real.name, plan.evaluations, plan.start) == ("iou", 48, 12)
    alone = QualityXgb(CostContext(space)).refinement()
    assert alone is not None
    assert alone.start == 24


def test_subnets_lie_beside_the_supernet(tmp_path: Path, space: SearchSpace) -> None:
    def beside(name: str) -> Path | None:
        return subnets_beside(CostContext(space, supernet_source=str(tmp_path / name)))

    names = ("my_supernet.safetensors", "my_supernet.safetensors.gz", "other.safetensors")
    for name in names:
        (tmp_path / name).touch()
        assert beside(name) is None
    (tmp_path / "my_subnets.jsonl").touch()
    (tmp_path / "other_subnets.jsonl").touch()
    for name in names[:2]:
        assert beside(name) == tmp_path / "my_subnets.jsonl"
    assert beside("other.safetensors") == tmp_path / "other_subnets.jsonl"


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _width(batch: Any) -> float:
    return float(batch.hi[0] - batch.lo[0])


def test_archs_of_both_spaces_have_one_id(space: SearchSpace) -> None:
    small = space.freeze({"resolution": 96})
    archs = small.sample(np.random.default_rng(0), 5)
    assert Archs.of(space, list(archs)).ids == archs.ids
    assert small.whole.size() == space.size()
    assert space.whole is space
