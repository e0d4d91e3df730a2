"""`hwnas evaluate --archs`: other data, sources of designs, the file of lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hwnas.errors import ArchError, ConfigError, DataError, RunError
from hwnas.records import read_subnets
from hwnas.space import load_space
from hwnas.supernet.sam_supernet import SamSupernet, build
from hwnas.supernet.semantic import semantic_head
from hwnas.workflows.arch_sources import archs_from
from hwnas.workflows.evaluate import subnets as workflow
from hwnas.workflows.evaluate.data import open_data
from hwnas.workflows.evaluate.model import evaluate_baselines
from hwnas.workflows.evaluate.subnets import evaluate_subnets
from tests.data.shapes import CLASSES, write_shapes

SMALL: dict[str, Any] = {"archs": "random:2", "resolution": 128, "max_prompts": 3}


@pytest.fixture(scope="module", autouse=True)
def _built_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "build", cache(build))
        yield


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes") / "data")


@pytest.fixture(scope="module")
def whole(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an undisturbed evaluation with both kinds of prompts."""
    out = tmp_path_factory.mktemp("whole") / "lines.jsonl"
    evaluate_subnets("sam-vit-t", data=shapes, prompts=("box", "point"), out=out, **SMALL)
    return out


def test_another_domain_size_and_class_count_needs_no_code(shapes: Path, whole: Path) -> None:
    subnets = read_subnets(whole)
    assert [s.prompt for s in subnets] == ["box", "point"] * 2
    for subnet in subnets:
        assert 0 <= subnet.iou <= 1
        assert subnet.error is not None
        assert subnet.boundary_iou is not None
        assert (subnet.images, subnet.split) == (5, "all")
        assert 5 <= (subnet.objects or 0) <= 15
        assert subnet.genes["resolution"] == 128
        assert 0 < (subnet.bitops or 0) < (subnet.system_bitops or 0)
    assert evaluate_baselines(data=shapes, split="val")[0].images == 5


@pytest.mark.parametrize("cut", [0, 40, -30, -1])
def test_a_killed_evaluation_goes_on_where_it_was(
    shapes: Path, whole: Path, tmp_path: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = whole.read_bytes()
    out = tmp_path / "lines.jsonl"
    out.write_bytes(text[:cut] if cut else b"")
    runs = []
    score = workflow._PromptJudge.score
    monkeypatch.setattr(
        workflow._PromptJudge, "score", lambda self, arch: runs.append(1) or score(self, arch)
    )
    lines = evaluate_subnets(
        "sam-vit-t", data=shapes, prompts=("box", "point"), out=out, resume=True, **SMALL
    )
    assert out.read_bytes() == text
    assert [json.loads(line) for line in text.splitlines()] == lines
    assert len(runs) == (2 if cut in (0, 40) else 1)
    again = evaluate_subnets(
        "sam-vit-t", data=shapes, prompts=("box", "point"), out=out, resume=True, **SMALL
    )
    assert again == lines
    assert out.read_bytes() == text


def test_an_existing_file_is_not_touched_without_resume(whole: Path, shapes: Path) -> None:
    with pytest.raises(RunError, match="exists already; continue it with --resume"):
        evaluate_subnets("sam-vit-t", data=shapes, out=whole, **SMALL)
    with pytest.raises(ConfigError, match="name it with --out"):
        evaluate_subnets("sam-vit-t", data=shapes, resume=True, **SMALL)


def test_a_refused_evaluation_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        evaluate_subnets("sam-vit-t", data=tmp_path, out=tmp_path / "lines.jsonl", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_line_is_named(whole: Path, shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "lines.jsonl"
    out.write_text("{no json}\n" + whole.read_text())
    with pytest.raises(RunError, match="line 1 is damaged"):
        evaluate_subnets("sam-vit-t", data=shapes, out=out, resume=True, **SMALL)


def test_semantic_scores_of_a_supernet_with_classes(
    shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_head(name: str) -> SamSupernet:
        net = build(name)
        semantic_head(net.sam, CLASSES, seed=0)
        return net

    monkeypatch.setattr(workflow, "build", with_head)
    (line,) = evaluate_subnets(
        "sam-vit-t", data=shapes, prompts=["none"], archs="smallest", resolution=128
    )
    assert set(line["class_iou"]) == set(CLASSES)
    assert line["iou"] == pytest.approx(sum(line["class_iou"].values()) / 5)
    assert line["prompt"] == "none"
    monkeypatch.undo()
    with pytest.raises(DataError, match="no semantic head"):
        evaluate_subnets("sam-vit-t", data=shapes, prompts=["none"], archs="smallest")


def test_designs_come_from_files_runs_and_names(tmp_path: Path) -> None:
    space = load_space("sam-vit-t")
    drawn = archs_from(space, "random:3", seed=1)
    assert drawn.ids == archs_from(space, "random:3", seed=1).ids
    assert drawn.ids != archs_from(space, "random:3", seed=2).ids
    (tmp_path / "a.jsonl").write_text("\n".join(arch.to_json() for arch in drawn) + "\n\n")
    assert archs_from(space, str(tmp_path / "a.jsonl")).ids == drawn.ids
    (tmp_path / "b.jsonl").write_text(
        "".join(json.dumps({"genes": dict(a.genes), "iou": 1}) + "\n" for a in (*drawn, drawn[0]))
    )
    assert archs_from(space, str(tmp_path / "b.jsonl")).ids == drawn.ids  # each once
    names = [f"gene.{gene.name}" for gene in space.genes]
    rows = [
        ",".join(str(arch.get(name.removeprefix("gene."), "")) for name in names) for arch in drawn
    ]
    (tmp_path / "front.csv").write_text("\n".join([",".join(names), *rows]) + "\n")
    assert archs_from(space, str(tmp_path / "front.csv")).ids == drawn.ids
    small = archs_from(space, "random:3", seed=1, resolution=128)
    assert set(small.values("resolution")) == {128}
    assert archs_from(space, "largest")[0] == space.largest()


@pytest.mark.parametrize(
    ("source", "content", "part"),
    [
        ("gone.jsonl", None, "expected largest, smallest, random:N"),
        ("random:0", None, "N of 1 or more"),
        ("a.jsonl", "", "no designs in it"),
        ("a.jsonl", "{", "line 1: not JSON"),
        ("a.jsonl", '{"iou": 1}', 'no "genes"'),
        ("a.jsonl", '{"space": "toy", "genes": {}}', "a design of toy"),
        ("a.jsonl", '{"genes": {"resolution": 130}}\n{"genes": {"a": 1}}', "2 of 2 designs"),
        ("front.csv", "arch_id\nx\n", "no column gene.NAME"),
    ],
)
def test_sources_that_name_no_designs(
    tmp_path: Path, source: str, content: str | None, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(source).write_text(content)
    with pytest.raises(ArchError, match=part):
        archs_from(load_space("sam-vit-t"), source)


def test_options_that_make_no_sense(shapes: Path) -> None:
    for changes, part in (
        ({"prompts": ("box", "mask")}, "--prompt mask: expected box, point, none"),
        ({"prompts": ("none", "box")}, "not both"),
        ({"max_prompts": 0}, "--max-prompts 0"),
        ({"max_images": 0}, "--max-images 0"),
        ({"torch_device": "meta"}, "no GPU"),
    ):
        with pytest.raises(ConfigError, match=part):
            evaluate_subnets("sam-vit-t", data=shapes, **{**SMALL, **changes})
    with pytest.raises(ArchError, match="--resolution 100: sam-vit-t has 128, 256, 384, 512"):
        evaluate_subnets("sam-vit-t", data=shapes, **{**SMALL, "resolution": 100})


def test_images_are_drawn_with_the_seed(shapes: Path) -> None:
    names = [
        tuple(i.name for i in open_data(shapes, max_images=2, seed=seed).images)
        for seed in (0, 0, 1, 2, 3)
    ]
    assert names[0] == names[1]
    assert len(set(names)) > 1
    drawn = open_data(shapes, split="train", split_seed=0)
    assert drawn.split == "train"
    assert 0 < len(drawn.images) <= 5


def test_a_supernet_without_archs_says_what_to_add() -> None:
    from hwnas.supernet.sam_supernet import supernet_path
    from hwnas.workflows.evaluate.model import evaluate_model

    with pytest.raises(ConfigError, match="--archs largest"):
        evaluate_model(supernet_path("sam-vit-t"))
