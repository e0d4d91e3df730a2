"""Adapters for several kinds of images on one base, and several of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hwnas.config.finetuning import FinetuneConfig
from hwnas.errors import CheckpointError, DataError
from hwnas.supernet.training.finetuning.opening import open_finetuned, open_together
from hwnas.workflows.evaluate.model import evaluate_model
from hwnas.workflows.finetune import finetune
from hwnas.workflows.finetune.material import Material
from tests.workflows.finetune.finetune_folders import KINDS, SMALL

BITS = {"quantizer": {"w_bits": 4, "a_bits": 8}}


def run(data: Path, base: Path, out: Path, seed: int = 0, **changes: object) -> Path:
    finetune(data=data, out=out, seed=seed, overrides={**SMALL, "base": str(base), **changes})
    return out


def test_kinds_choose_what_is_learned_and_judged_but_not_the_grids(data: Path) -> None:
    every = Material.read(data, FinetuneConfig(), ())
    one = Material.read(data, FinetuneConfig(kinds=("light",)), ())
    assert {image.kind for image in one.train} == {image.kind for image in one.final} == {"light"}
    assert {image.kind for image in every.train} == set(KINDS)
    assert [i.name for i in one.calibration(3, 0)] == [i.name for i in every.calibration(3, 0)]
    with pytest.raises(DataError, match=r"of the kinds blue; .*its kinds are dark, light"):
        Material.read(data, FinetuneConfig(kinds=("blue",)), ())


@pytest.mark.parametrize(("kind", "bits"), [("lora", {}), ("shira", BITS), ("lora", BITS)])
def test_adapters_of_two_runs_add_up(
    kind: str, bits: dict[str, object], data: Path, base: Path, tmp_path: Path
) -> None:
    light, dark = (
        run(data, base, tmp_path / name, kinds=[name], **{"adapter.kind": kind}, **bits)
        for name in KINDS
    )
    both = open_together([light, dark]).student
    alone = [open_finetuned(folder).student for folder in (light, dark)]
    for path, layer in both.layers.items():
        deltas = [own.layers[path].effective_weight() - own.layers[path].weight for own in alone]
        expected = layer.weight + sum(deltas)
        assert torch.allclose(layer.effective_weight(), expected, atol=1e-6)
        assert deltas[0].abs().max() > 0
        assert not torch.equal(*deltas)
    scores = evaluate_model(base, data=data, split="val", adapters=[light, dark])
    assert scores[0].method == f"tiny + {kind} + {kind}"


def test_what_does_not_go_together_is_refused(data: Path, base: Path, tmp_path: Path) -> None:
    first = run(data, base, tmp_path / "first", **BITS)
    with pytest.raises(CheckpointError, match="other grids of its quantizers"):
        open_together([first, run(data, base, tmp_path / "float")])
    with pytest.raises(CheckpointError, match=r"has trained .*which cannot be put together"):
        open_together([first, run(data, base, tmp_path / "decoder", train_decoder=True, **BITS)])
    with pytest.raises(CheckpointError, match="full is no adapter that others join"):
        open_together([run(data, base, tmp_path / "full", **{"adapter.kind": "full"}), first])
