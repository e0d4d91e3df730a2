"""Costs of adapters, and the quality that a short training gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.adapters import attach, save
from hwnas.cost import CostContext, build
from hwnas.errors import CostError
from hwnas.space import Arch, load_space
from hwnas.supernet.sam_model import build_sam
from hwnas.testing.cost_models import check_cost_model
from hwnas.workload.adapter_choice import PLACEMENTS, AdapterChoice
from hwnas.workload.sam import GEOMETRIES
from search_spaces.sam_adapters import KINDS, adapter_space
from tests.workflows.finetune.finetune_folders import write_disks, write_tiny

COSTS = ("adapter_bytes", "training_memory", "training_macs")
SPACE = "sam-vit-t-adapters"


def arch(kind: str = "lora", rank: int = 4, placement: str = "qkv") -> Arch:
    return load_space(SPACE).arch({"kind": kind, "rank": rank, "placement": placement})


def context(**more: Any) -> CostContext:
    return CostContext(load_space(SPACE), **more)


@pytest.mark.parametrize("kind", KINDS)
def test_counted_bytes_are_those_of_the_file(kind: str, tmp_path: Path) -> None:
    geometry = GEOMETRIES["sam-vit-t"]
    choice = AdapterChoice(kind, 4, "attention")
    attached = attach(build_sam(geometry), kind, targets=choice.targets, **choice.options(geometry))
    save(attached, tmp_path)
    counted = build("adapter_bytes", context()).evaluate([arch(kind, 4, "attention")])[0]
    content = (tmp_path / "adapter_model.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    assert len(content) - header == counted


def test_every_design_has_every_cost() -> None:
    space = load_space(SPACE)
    archs = [a for chunk in space.enumerate() for a in chunk]
    assert len(archs) == len(KINDS) * 4 * len(PLACEMENTS)
    for name in COSTS:
        values = build(name, context()).evaluate(archs)
        assert np.isfinite(values).all()
        assert (values > 0).all()


def test_costs_grow_with_the_rank() -> None:
    ranks = [arch(rank=rank) for rank in (2, 4, 8, 16)]
    for name in COSTS:
        assert (np.diff(build(name, context()).evaluate(ranks)) > 0).all()


def test_a_merged_adapter_needs_the_gradient_of_the_whole_weight() -> None:
    macs = build("training_macs", context()).evaluate([arch("lora"), arch("dora"), arch("shira")])
    assert macs[1] == macs[2] > macs[0]


def test_a_branch_costs_at_inference_and_a_merged_adapter_does_not() -> None:
    space = load_space(SPACE)
    macs = build("macs", context()).evaluate([arch("lora"), arch("shira"), arch("conv_lora")])
    assert macs[0] == macs[1] < macs[2]
    tokens, dim, rank, depth = 32 * 32, 192, 4, 12
    assert macs[2] - macs[0] == pytest.approx(depth * tokens * rank * 4 * dim / 1e9)
    names = {layer.name for layer in space.lower(arch("conv_lora")).layers}
    assert "blocks.0.qkv.down" in names
    assert "blocks.0.proj.down" not in names


def test_spaces_without_adapters_are_refused() -> None:
    for name in (*COSTS, "finetuned_iou"):
        with pytest.raises(CostError, match="does not choose adapters"):
            build(name, CostContext(load_space("toy")))


def test_quality_needs_data_and_possible_options() -> None:
    with pytest.raises(CostError, match="--data DIR"):
        build("finetuned_iou", context())
    with pytest.raises(CostError, match="steps 0"):
        build("finetuned_iou", context(data_source="d"), steps=0)


def test_a_design_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_disks(tmp_path / "data")
    base = write_tiny(tmp_path / "tiny.safetensors", monkeypatch)
    space = adapter_space(GEOMETRIES["tiny"], name="tiny-adapters", resolution=64)
    options = {
        "base": str(base), "steps": 2, "max_images": 2, "max_prompts": 2,
        "folder": str(tmp_path / "runs"),
    }  # fmt: skip
    own = CostContext(space, data_source=str(data))
    archs = [space.arch({"kind": k, "rank": 2, "placement": "qkv"}) for k in ("lora", "shira")]
    values = build("finetuned_iou", own, **options).evaluate(archs)
    assert ((values >= 0) & (values <= 1)).all()
    folders = sorted((tmp_path / "runs").iterdir())
    assert [f.name.split("-")[0] for f in folders] == sorted(a.id for a in archs)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")}
    again = build("finetuned_iou", own, **options).evaluate(archs)
    assert np.array_equal(values, again)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    build("finetuned_iou", own, **{**options, "steps": 3}).evaluate(archs[:1])
    assert len(list((tmp_path / "runs").iterdir())) == 3


@pytest.mark.slow
def test_the_contract_of_a_quality_that_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_disks(tmp_path / "data")
    base = write_tiny(tmp_path / "tiny.safetensors", monkeypatch)
    space = adapter_space(GEOMETRIES["tiny"], name="tiny-adapters", resolution=64)
    own = CostContext(space, data_source=str(data))
    model = build(
        "finetuned_iou", own, base=str(base), steps=1, max_images=1, max_prompts=1,
        folder=str(tmp_path / "runs"),
    )  # fmt: skip
    assert check_cost_model(model, own, n=2) == []
