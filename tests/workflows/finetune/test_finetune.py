"""`hwnas finetune` from a folder of images to a folder with adapters, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from hwnas.adapters.files import load
from hwnas.cli.app import app
from hwnas.errors import CheckpointError, ConfigError, DataError, PluginError, RunError
from hwnas.supernet.sam_model import encode
from hwnas.workflows.evaluate.model import evaluate_model
from hwnas.workflows.finetune import finetune, open_finetuned
from tests.supernet.elastic_models import random_sam
from tests.workflows.finetune.finetune_folders import SMALL, write_disks, write_tiny

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def run(data: Path, base: Path, out: Path, **changes: object) -> dict[str, Any]:
    overrides = {"base": str(base), **SMALL, **changes}
    resume = bool(overrides.pop("resume", False))
    return finetune(data=data, out=out, overrides=overrides, resume=resume)


@pytest.fixture(scope="module")
def tuned(data: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "lora"
    run(data, base, out)
    return out


def test_the_folder_says_what_was_done(tuned: Path, base: Path) -> None:
    facts = json.loads((tuned / "finetuned.json").read_text())
    assert (facts["method"], facts["base"], facts["data"]) == ("lora", "tiny.safetensors", "disks")
    assert facts["steps"] == 3
    assert facts["images"] == {"train": 4, "val": 2}
    sizes = 48 * (4 + 2 + 5 + 5)  # rows plus columns of qkv, proj, lin1 and lin2
    assert facts["trainable_parameters"] == 4 * 8 * sizes
    files = [path.name for path in (tuned / "adapter").iterdir()]
    assert sorted(files) == ["adapter_config.json", "adapter_model.safetensors"]
    assert facts["adapter_bytes"] == sum((tuned / "adapter" / n).stat().st_size for n in files)
    assert facts["adapter_bytes"] > 4 * facts["trainable_parameters"]
    assert facts["tuned_bytes"] == 0
    for when in ("before", "after"):
        assert set(facts["iou"][when]) == {"box", "point"}
        assert all(0 <= value <= 1 for value in facts["iou"][when].values())
    assert facts["iou"]["quantized"] is None
    assert facts["seconds_per_step"] > 0
    assert facts["peak_rss_bytes"] > 1 << 27


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter.kind": "lora", "train_decoder": True},
        {"adapter.kind": "shira", "adapter.options": {"mask": "snip"},
         "adapter.gradient_batches": 2},
        {"adapter.kind": "nas_lora"},
        {"adapter.kind": "foura"},
        {"adapter.kind": "losa", "adapter.options": {"rank": 4}},
        {"adapter.kind": "lst", "train_decoder": True},
        {"adapter.kind": "bitfit"},
        {"adapter.kind": "full", "quantizer": {}, "freeze.rows": "ov"},
        {"quantizer": {"w_bits": 4, "a_bits": 8}, "freeze": {"rows": "ov", "start": 0.5},
         "distil": {"mask": 1.0, "embedding": 1.0}},
    ],
)  # fmt: skip
def test_opened_again_it_is_what_was_judged(
    changes: dict[str, object], data: Path, base: Path, tmp_path: Path
) -> None:
    facts = run(data, base, tmp_path / "run", **changes)
    found = open_finetuned(tmp_path / "run")
    scores = evaluate_model(tmp_path / "run", data=data, split="val")
    assert {s.prompt: round(s.iou, 4) for s in scores} == facts["iou"]["after"]
    assert (facts["iou"]["quantized"] is None) == ("quantizer" not in changes)
    with torch.no_grad():
        assert not torch.equal(found.embed(IMAGES), encode(random_sam(), IMAGES))
    # the stage's own tensors, beside what was written for others
    again = run(data, base, tmp_path / "run", resume=True, **changes)
    assert again == facts


def test_the_adapter_folder_is_one_for_any_model(tuned: Path) -> None:
    sam = random_sam()
    load(sam, tuned / "adapter")
    with torch.no_grad():
        assert torch.equal(encode(sam, IMAGES), open_finetuned(tuned).embed(IMAGES))


def test_a_run_is_resumed_by_the_same_recipe_alone(tuned: Path, data: Path, base: Path) -> None:
    with pytest.raises(RunError, match="add --resume"):
        run(data, base, tuned)
    with pytest.raises(RunError, match="other values of recipe"):
        run(data, base, tuned, resume=True, steps=4)


def test_a_run_belongs_to_its_base(tuned: Path, tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    other = write_tiny(tmp_path / "other.safetensors", patch, seed=1)
    with pytest.raises(CheckpointError, match="from other weights"):
        open_finetuned(tuned, base=other)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no finished fine-tuning"):
        open_finetuned(tmp_path / "empty")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"adapter.kind": "lorra"}, PluginError, "lora"),
        ({"adapter.options": {"rang": 2}}, PluginError, "cannot be made with"),
        ({"adapter.options": {"seed": 2}}, ConfigError, "no option of an adapter"),
        ({"adapter.targets": "blocks.0"}, ConfigError, "matches none"),
        ({"adapter.kind": "losa", "quantizer": {}}, ConfigError, "stands beside the encoder"),
        ({"adapter.kind": "bitfit", "freeze.rows": "ov"}, ConfigError, "trains no weight"),
        ({"adapter.kind": "full", "adapter.options": {"rank": 2}}, ConfigError, "takes no adapter"),
        ({"adapter.targets": r".*lin1", "freeze.rows": "ov"}, ConfigError, "no adapted layer"),
        ({"adapter.kind": "nas_lora", "adapter.options": {"op_set": "darts"}}, ConfigError,
         "cannot be annealed"),
        ({"distil.mask": 1, "distil.teacher": "nowhere"}, CheckpointError, "no finished"),
        ({"quantizer.w_bits": 5}, ConfigError, "quantizers exist for"),
        ({"quantizer.learned": True, "freeze.rows": "ov"}, ConfigError, "freeze.rows"),
        ({"resolution": 65}, ConfigError, "multiple of the patch"),
        ({"task": 0}, ConfigError, "nothing to learn"),
        ({"no_such": 1}, ConfigError, "unknown key"),
    ],
)  # fmt: skip
def test_what_cannot_be_leaves_no_folder(
    changes: dict[str, object], error: type[Exception], message: str,
    data: Path, base: Path, tmp_path: Path,
) -> None:  # fmt: skip
    with pytest.raises(error, match=message):
        run(data, base, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_a_fine_tuning_teaches_another(tuned: Path, data: Path, base: Path, tmp_path: Path) -> None:
    """A student at 4 bits learns from the masks and the embedding of another run alone."""
    distil = {"mask": 1.0, "embedding": 1.0, "teacher": str(tuned)}
    facts = run(data, base, tmp_path / "run", distil=distil, task=0.0, quantizer={})
    assert facts["recipe"]["distil"]["teacher"] == str(tuned)
    lines = [json.loads(t) for t in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all(line["embedding_loss"] > 0 and line["mask_loss"] > 0 for line in lines)


@pytest.mark.parametrize(
    ("kind", "options"), [("shira", {"mask": "gradient"}), ("losa", {"rank": 4})]
)
def test_one_subnet_of_the_shipped_supernet(
    kind: str, options: dict[str, object], data: Path, tmp_path: Path
) -> None:
    changes: dict[str, object] = {
        "arch": "smallest", "adapter.kind": kind, "adapter.options": options,
        "adapter.gradient_batches": 1, "steps": 1, "resolution": 128,
        "validation.final_images": 1,
    }  # fmt: skip
    facts = run(data, Path("sam-vit-t"), tmp_path / "run", **changes)
    assert facts["arch"]["resolution"] == 128
    (score, _) = evaluate_model(
        tmp_path / "run", data=data, split="val", max_images=None, prompts=("box", "point")
    )
    assert score.method == f"sam-vit-t + {kind}"
    assert (score.prompt, score.resolution) == ("box", 128)
    found = open_finetuned(tmp_path / "run")
    assert found.fixed
    with pytest.raises(ConfigError, match="2 designs"):
        run(data, Path("sam-vit-t"), tmp_path / "two", **{**changes, "arch": "random:2"})
    assert not (tmp_path / "two").exists()


def test_data_without_val_is_refused(base: Path, tmp_path: Path) -> None:
    folder = write_disks(tmp_path / "disks")
    table = folder / "split.csv"
    table.write_text(table.read_text().replace(",val", ",test"))
    with pytest.raises(DataError, match="no split 'val'"):
        run(folder, base, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command_line(data: Path, base: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"steps": 2, "prompts": 2, "validation": {"images": 1}}))
    out = tmp_path / "run"
    command = [
        "finetune", "--recipe", str(recipe), "--base", str(base), "--data", str(data),
        "--out", str(out), "--adapter", "dora", "--resolution", "64", "--bits", "4,8",
        "--freeze", "ov", "--set", "adapter.options.rank=2", "--quiet",
    ]  # fmt: skip
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert (facts["method"], facts["options"]) == ("dora", {"rank": 2})
    assert set(facts["iou"]["quantized"]) == {"box", "point"}
    scored = ["evaluate", str(base), "--adapter", str(out), "--data", str(data), "--split", "test"]
    found = CliRunner().invoke(app, [*scored, "--json"])
    assert found.exit_code == 0, found.output
    lines = json.loads(found.stdout)
    assert [line["method"] for line in lines] == ["tiny + dora"] * 2
    assert [line["resolution"] for line in lines] == [64, 64]
    again = CliRunner().invoke(app, command)
    assert again.exit_code != 0


def test_it_tells_what_no_gradient_reached(
    data: Path, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = {"quantizer": {"w_bits": 2, "a_bits": 8}, "adapter.kind": "shira"}
    largest = run(data, base, tmp_path / "largest", **few)
    assert "shira: " in caplog.text
    assert "% of its numbers are as they began" in caplog.text
    caplog.clear()
    other = run(data, base, tmp_path / "any", **few, **{"adapter.options": {"mask": "random"}})
    lora = run(data, base, tmp_path / "lora", **few | {"adapter.kind": "lora"})
    assert not caplog.text
    assert lora["unmoved"] < 0.05 < other["unmoved"] < 0.5 < largest["unmoved"]
    assert run(data, base, tmp_path / "full", **{"adapter.kind": "full"})["unmoved"] is None
