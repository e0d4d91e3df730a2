"""The quality predictor inside a whole search, on the shipped weights and picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hwnas.config import make_config
from hwnas.cost import CostContext, build
from hwnas.data.embedded import embedded_image
from hwnas.errors import CostError, DataError
from hwnas.records import EvaluatedSubnet
from hwnas.space import load_space
from hwnas.supernet.sam_supernet import supernet_path
from hwnas.workflows.context import make_context
from hwnas.workflows.explain import explain
from hwnas.workflows.front_table import front_document
from hwnas.workflows.report import write_report
from hwnas.workflows.resolve import resolve
from hwnas.workflows.search import Outcome, resume_search, run_search

FROZEN = {"resolution": 128}


def config(folder: Path | None = None, **more: object) -> dict[str, object]:
    options = {
        "quality": {"refine": 12, "start": 8, "images": 1},
        "iou": {"max_images": 1, "max_prompts": 2},
    }
    return {
        "space": "sam-vit-t", "freeze": FROZEN, "max_evaluations": 36, "population": 12,
        "objectives": ["quality", "bitops"], "options": options,
        "data": None if folder is None else str(folder), **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """A search whose supernet has no evaluated subnets beside it, so all labels are its own."""
    folder = tmp_path_factory.mktemp("refined")
    supernet = Path(shutil.copy(supernet_path("sam-vit-t"), folder))
    found = config(supernet=str(supernet))
    return run_search(make_config("test", found), out=folder / "run"), folder / "run"


def test_the_front_is_scored_and_the_predictor_judged(refined: tuple[Outcome, Path]) -> None:
    outcome, run = refined
    assert outcome.result.real_evaluations == 12
    assert len((run / "real_quality.jsonl").read_text().splitlines()) == 12
    assert outcome.rescored is not None
    assert set(outcome.rescored.values) == set(outcome.result.front.ids)
    document = front_document(outcome)
    assert document["real_evaluations"] == 12
    found = document["predictors"]["quality"]
    assert found["held_out"] >= 3
    assert found["judged_on"] == "real evaluations"
    assert found["on_front"]["designs"] == len(outcome.result.front)
    json.dumps(document, allow_nan=False)
    assert "held-out real evaluations" in (run / "report.html").read_text()


def test_a_run_cut_in_the_middle_ends_with_the_same_front(
    refined: tuple[Outcome, Path], tmp_path: Path
) -> None:
    outcome, run = refined
    cut = tmp_path / "cut"
    shutil.copytree(run, cut)
    for name, whole in (("evaluations.jsonl", 30), ("real_quality.jsonl", 10)):
        lines = (cut / name).read_text().splitlines(keepends=True)
        (cut / name).write_text("".join(lines[:whole]) + lines[whole][:40])  # torn
    for name in ("front.json", "front.csv", "rescored.json", "report.html", "state.json"):
        (cut / name).unlink()
    again = resume_search(cut)
    assert again.result.front.to_json() == outcome.result.front.to_json()
    assert again.judged == outcome.judged
    assert (cut / "real_quality.jsonl").read_text().count("\n") == 12


def test_a_report_of_the_folder_alone_has_the_predicted_values(
    refined: tuple[Outcome, Path], tmp_path: Path
) -> None:
    _, run = refined
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    first = (copy / "report.html").read_text()
    (copy / "report.html").unlink()
    write_report(copy)
    there = (copy / "report.html").read_text()
    note = "Kendall tau"
    assert first[first.index(note) :][:120] == there[there.index(note) :][:120]


def test_without_anything_to_learn_from_a_proxy_is_optimized() -> None:
    live = resolve(make_config("test", {"space": "sam-vit-b"}))
    assert live.problem.names == ("embedding_distortion", "bitops")
    assert live.config.max_evaluations == 360
    assert resolve(make_config("test", {"space": "toy"})).config.max_evaluations == 1000


def test_data_of_the_users_own_make_quality_an_objective(tmp_path: Path) -> None:
    folder = _pictures(tmp_path, {"a": "train", "b": "val", "c": "test"})
    live = resolve(make_config("test", {"space": "sam-vit-b", "data": str(folder)}))
    assert live.problem.names == ("quality", "bitops")
    assert any("up to 48 designs are evaluated by iou" in remark for remark in live.remarks)
    assert any("box prompts, at most 8 images" in remark for remark in live.remarks)
    assert [image.name for image in live.context.require("data", by="test")] == ["b"]


def test_a_search_never_looks_at_the_test_split(tmp_path: Path) -> None:
    folder = _pictures(tmp_path, {"a": "test", "b": "test"})
    context = make_context(load_space("sam-vit-t"), data=str(folder))
    with pytest.raises(DataError, match="all 2 images are of the test split"):
        context.require("data", by="test")
    mixed = _pictures(tmp_path / "mixed", {"a": "test", "b": "train"})
    context = make_context(load_space("sam-vit-t"), data=str(mixed))
    assert [image.name for image in context.require("data", by="test")] == ["b"]


def test_subnets_that_were_evaluated_before_need_no_real_evaluation(tmp_path: Path) -> None:
    space = load_space("sam-vit-t", freeze=FROZEN)
    archs = space.sample(np.random.default_rng(0), 40)
    bits = build("bitops", CostContext(space)).evaluate(archs)
    file = tmp_path / "subnets.jsonl"
    file.write_text(
        "\n".join(
            EvaluatedSubnet(arch_id=a.id, genes=a.genes, iou=float(b / bits.max())).to_json()
            for a, b in zip(archs, bits, strict=True)
        )
    )
    run = tmp_path / "run"
    outcome = run_search(
        make_config("test", config(options={"quality": {"archs": str(file)}}, rescore="bitops")),
        out=run,
    )
    assert outcome.result.real_evaluations == 0
    assert not (run / "real_quality.jsonl").exists()
    assert outcome.result.front.columns[0].fidelity == "predicted"
    assert outcome.judged["quality"].report.held_out == 10
    file.write_text(file.read_text() + "\n")
    with pytest.raises(Exception, match="changed since the run began"):
        resume_search(run)


def test_a_dry_run_counts_real_evaluations() -> None:
    explanation = explain(make_config("test", config()))
    assert explanation.real_evaluations == {"quality": 12}
    assert ("real evaluations", "up to 12 to learn quality from") in explanation.rows()


def test_a_space_without_weights_says_what_is_missing(tmp_path: Path) -> None:
    content = {"space": "toy", "objectives": ["quality", "bitops"]}
    with pytest.raises(CostError, match="quality needs a supernet and none was given"):
        run_search(make_config("test", content), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def _pictures(folder: Path, splits: dict[str, str]) -> Path:
    from PIL import Image

    labeled = embedded_image()
    for name in ("images", "instances"):
        (folder / name).mkdir(parents=True)
    rows = ["name,file,split"]
    for name, split in splits.items():
        Image.fromarray(labeled.image).save(folder / "images" / f"{name}.png")
        marks = labeled.instances.astype(np.uint16)
        Image.fromarray(marks).save(folder / "instances" / f"{name}.png")
        rows.append(f"{name},{name}.png,{split}")
    (folder / "split.csv").write_text("\n".join(rows) + "\n")
    return folder
