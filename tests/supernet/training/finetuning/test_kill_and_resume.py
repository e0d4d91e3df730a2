"""`kill -9` in the middle of a fine-tuning, then the same command again: the same weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hwnas.errors import CheckpointError
from hwnas.supernet.training.finetuning.run import STAGE
from hwnas.supernet.training.loop import Progress
from tests.supernet.training.finetuning import finetune_material
from tests.supernet.training.finetuning.finetune_material import (
    STEPS,
    tensors,
    tiny_finetuning,
    tiny_recipe,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As the processes that are killed: another number of threads sums in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def start(folder: Path, kind: str, kill_after: int) -> int:
    root = str(Path(__file__).parents[4])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(finetune_material.__file__), str(folder), kind, str(kill_after)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


class _Cut(Exception):
    """The process ends here: nothing is saved any more."""


@pytest.mark.parametrize("kind", ["lora", "conv_lora", "foura", "shira", "dora", "full", "frozen"])
def test_cut_off_and_resumed_gives_the_same_weights(kind: str, tmp_path: Path) -> None:
    """Noise, gates and held rows too: what a step draws depends on the seed and the step alone."""
    late = {"quantizer": {}, "freeze": {"rows": "ov", "start": 0.4}}
    recipe = tiny_recipe("lora", **late) if kind == "frozen" else tiny_recipe(kind)
    whole = tiny_finetuning(tmp_path / "whole", recipe)
    whole.run()

    def cut(progress: Progress) -> None:
        if progress.step == 4:
            raise _Cut

    first = tiny_finetuning(tmp_path / "cut", recipe, progress=cut, save_seconds=0.0)
    with pytest.raises(_Cut):
        first.run()
    second = tiny_finetuning(tmp_path / "cut", recipe)
    second.run()
    kept, again = tensors(whole), tensors(second)
    assert [name for name in kept if not torch.equal(kept[name], again[name])] == []


def test_killed_and_resumed_gives_the_same_weights(tmp_path: Path) -> None:
    """Of a relaxed architecture, killed while it trains: two optimizers go on."""
    whole = tiny_finetuning(tmp_path / "whole", tiny_recipe("nas_lora"))
    figures = whole.run()
    assert start(tmp_path / "cut", "nas_lora", 3) == -signal.SIGKILL
    tiny_finetuning(tmp_path / "cut", tiny_recipe("nas_lora")).run()
    one, two = (
        load_file(tmp_path / name / "stages" / f"{STAGE}.safetensors") for name in ("whole", "cut")
    )
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert figures["steps"] == STEPS

    read = tiny_finetuning(tmp_path / "cut", tiny_recipe("nas_lora"))
    read.run()  # is done: reads
    kept, again = tensors(whole), tensors(read)
    assert [name for name in kept if not torch.equal(kept[name], again[name])] == []


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    tiny_finetuning(tmp_path, tiny_recipe("lora")).run()
    other = tiny_recipe("lora", adapter={"kind": "lora", "options": {"rank": 3}})
    with pytest.raises(CheckpointError, match="do not fit"):
        tiny_finetuning(tmp_path, other).run()
