"""The training engine: curves, checkpoints, stops, and what it refuses."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hwnas.errors import CheckpointError, ConfigError, Interrupted, TrainingError
from hwnas.supernet.training.loop import Progress, run_stage
from hwnas.supernet.training.precision import autocast, float32
from hwnas.supernet.training.stage import ParameterGroup, Share, Stage

SCRIPT = Path(__file__).with_name("small_stage.py")
STEPS = 24


def line_stage(steps: int = 40, *, rate: float = 0.05, **changes: Any) -> Stage:
    """Fit y = x · (1, 1, 1, 1) by a linear layer."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 1)

    def accumulate(rng: np.random.Generator, share: Share) -> Mapping[str, torch.Tensor]:
        x = torch.from_numpy(rng.normal(size=(8, 4))[share.rows(8)]).float()
        loss = (layer(x)[:, 0] - x.sum(1)).square().mean()
        loss.backward()
        return {"loss": loss.detach()}

    def validate() -> dict[str, float]:
        assert not layer.training
        return {"error": float((layer.weight.detach() - 1).abs().max())}

    groups = [
        ParameterGroup("weight", [("weight", layer.weight)], rate),
        ParameterGroup("bias", [("bias", layer.bias)], rate / 10, clip=False),
    ]
    stage = Stage("line", 1, layer, groups, steps, accumulate, validate, validate_every=20)
    return replace(stage, **changes)


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for line in found:
        del line["seconds"]
    return found


def weights(folder: Path, stage: str = "line") -> dict[str, torch.Tensor]:
    return load_file(folder / "stages" / f"{stage}.safetensors")


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_same_seed_gives_the_same_curve(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run_stage(line_stage(), tmp_path / name, seed=seed)
    assert lines(tmp_path / "a") == lines(tmp_path / "b")
    assert lines(tmp_path / "a") != lines(tmp_path / "c")
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert [line["step"] for line in lines(tmp_path / "a")] == [10, 20, 30, 40]
    assert ["error" in line for line in lines(tmp_path / "a")] == [False, True, False, True]


def test_it_learns_and_keeps_the_average(tmp_path: Path) -> None:
    stage = line_stage(300, ema=0.9)
    figures = run_stage(stage, tmp_path, seed=0)
    assert figures["error"] < 0.01
    assert figures["steps"] == 300
    assert torch.equal(stage.module.weight, weights(tmp_path)["weight"])


def test_a_stage_that_is_done_is_not_repeated(tmp_path: Path) -> None:
    done = run_stage(line_stage(), tmp_path, seed=0)

    def never(rng: np.random.Generator, share: Share) -> dict[str, float]:
        raise AssertionError

    again = line_stage(accumulate=never)
    assert run_stage(again, tmp_path, seed=0) == done
    assert torch.equal(again.module.weight, weights(tmp_path)["weight"])


def test_only_clipped_groups_enter_the_norm(tmp_path: Path) -> None:
    """A clip of nearly zero leaves AdamW's first step, which has no scale, to the epsilon."""
    stage = line_stage(1, clip=1e-12, warmup=0.0, ema=0.0)
    before = {k: v.clone() for k, v in stage.module.state_dict().items()}
    run_stage(stage, tmp_path, seed=0)
    moved = {k: float((v - before[k]).abs().max()) for k, v in weights(tmp_path).items()}
    assert moved["weight"] < 1e-4
    assert moved["bias"] == pytest.approx(0.05 / 10, rel=1e-3)


def test_gradients_that_are_not_finite_are_skipped_and_counted(tmp_path: Path) -> None:
    stage = line_stage()

    def sometimes(rng: np.random.Generator, share: Share) -> Mapping[str, Any]:
        figures = stage.accumulate(rng, share)
        if rng.random() < 0.3:
            assert stage.module.bias.grad is not None
            stage.module.bias.grad.fill_(float("nan"))
        return figures

    figures = run_stage(replace(stage, accumulate=sometimes), tmp_path, seed=0)
    assert 0 < figures["skipped"] < 40
    assert lines(tmp_path)[-1]["skipped"] == figures["skipped"]
    assert np.isfinite(figures["error"])


def test_too_many_skipped_steps_end_the_stage(tmp_path: Path) -> None:
    stage = line_stage()

    def never(rng: np.random.Generator, share: Share) -> dict[str, float]:
        (stage.module.weight.sum() * float("inf")).backward()
        return {}

    with pytest.raises(TrainingError, match="in 21 steps in a row, at step 21; lower the rate"):
        run_stage(replace(stage, accumulate=never), tmp_path, seed=0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_next_run_goes_on(number: signal.Signals, tmp_path: Path) -> None:
    run_stage(line_stage(), tmp_path / "whole", seed=0)
    stage = line_stage()

    def stopped(progress: Progress) -> None:
        if progress.step == 13:
            signal.raise_signal(number)

    with pytest.raises(Interrupted, match="in stage line after step 13 of 40") as caught:
        run_stage(stage, tmp_path / "cut", seed=0, progress=stopped)
    assert caught.value.exit_code == 130
    run_stage(line_stage(), tmp_path / "cut", seed=0)
    assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_a_signal_during_validation_does_not_wait_for_its_end(tmp_path: Path) -> None:
    run_stage(line_stage(), tmp_path / "whole", seed=0)

    def endless() -> dict[str, float]:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError

    with pytest.raises(Interrupted, match="after step 20 of 40"):
        run_stage(line_stage(validate=endless), tmp_path / "cut", seed=0)
    run_stage(line_stage(), tmp_path / "cut", seed=0)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_a_damaged_checkpoint_gives_one_message(tmp_path: Path) -> None:
    def stopped(progress: Progress) -> None:
        if progress.step == 13:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        run_stage(line_stage(), tmp_path, seed=0, progress=stopped)
    with pytest.raises(CheckpointError, match=r"\(seed 0, expected 1\).*delete it to repeat"):
        run_stage(line_stage(), tmp_path, seed=1)
    with pytest.raises(CheckpointError, match=r"\(steps 40, expected 50\)"):
        run_stage(line_stage(50), tmp_path, seed=0)
    (kept,) = (tmp_path / "checkpoint").iterdir()
    assert sorted(p.name for p in kept.iterdir()) == ["state.json", "state.safetensors"]
    tensors = kept / "state.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match=r"line-00000013: cannot be read .*delete it"):
        run_stage(line_stage(), tmp_path, seed=0)
    (kept / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"line-00000013: cannot be read"):
        run_stage(line_stage(), tmp_path, seed=0)


def test_half_a_checkpoint_is_none(tmp_path: Path) -> None:
    """What a kill leaves before the rename is not read, and the next checkpoint replaces it."""
    draft = tmp_path / "checkpoint" / ".line-00000013.part"
    draft.mkdir(parents=True)
    (draft / "state.json").write_text('{"step": 13')
    assert run_stage(line_stage(), tmp_path, seed=0, save_seconds=0)["steps"] == 40


def test_the_clock_ends_a_stage(tmp_path: Path) -> None:
    seen: list[Progress] = []
    stage = line_stage(10**9, minutes=0.2 / 60)
    figures = run_stage(stage, tmp_path, seed=0, progress=seen.append)
    assert 1 < figures["steps"] < 10**6
    assert seen[-1].done > seen[0].done
    assert seen[-1].seconds_left is not None


def test_a_parameter_has_one_group(tmp_path: Path) -> None:
    stage = line_stage()
    with pytest.raises(ConfigError, match=r"more than one group \(weight\)"):
        run_stage(replace(stage, groups=[*stage.groups, stage.groups[0]]), tmp_path, seed=0)
    with pytest.raises(ConfigError, match="trains no parameter"):
        run_stage(replace(stage, groups=[]), tmp_path, seed=0)


def test_shares_have_equal_size() -> None:
    assert np.arange(6)[Share(1, 2).rows(6)].tolist() == [1, 3, 5]
    with pytest.raises(ConfigError, match="batch of 3 cannot be shared equally by 2 processes"):
        Share(0, 2).rows(3)


def test_bf16_is_for_products_only() -> None:
    device, x = torch.device("cpu"), torch.ones(2, 2)
    with autocast(device, "bf16"):
        assert (x @ x).dtype == torch.bfloat16
        with float32(device):
            assert (x @ x).dtype == torch.float32
    with autocast(device, "fp32"):
        assert (x @ x).dtype == torch.float32


def start(folder: Path, *extra: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(folder), str(STEPS), *extra]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def saved(folder: Path) -> int:
    steps = [int(p.name.rpartition("-")[2]) for p in (folder / "checkpoint").glob("small-*")]
    return max(steps, default=0)


@pytest.mark.slow
def test_a_killed_stage_ends_with_the_weights_of_an_undisturbed_one(tmp_path: Path) -> None:
    """`kill -9` at random moments, mostly while a checkpoint is being written."""
    whole, cut, rng = tmp_path / "whole", tmp_path / "cut", random.Random(0)
    child = start(whole)
    for goal in (4, 11, 17):
        victim = start(cut)
        while saved(cut) < goal and victim.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        victim.kill()
        _, said = victim.communicate()
        assert victim.returncode == -signal.SIGKILL, said
    last = start(cut)
    for process in (child, last):
        _, said = process.communicate()
        assert process.returncode == 0, said
    assert same(weights(cut, "small"), weights(whole, "small"))
    assert lines(cut) == lines(whole)
    assert not list((cut / "checkpoint").glob("small-*"))


@pytest.mark.slow
@pytest.mark.parametrize("extra", [(), ("shard",)], ids=["averaged", "sharded"])
def test_two_processes_give_the_curve_of_one(extra: tuple[str, ...], tmp_path: Path) -> None:
    child = start(tmp_path / "one")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    subprocess.run(
        [*torchrun, "--nproc-per-node=2", str(SCRIPT), str(tmp_path / "two"), str(STEPS), *extra],
        check=True,
        capture_output=True,
    )
    _, said = child.communicate()
    assert child.returncode == 0, said
    one, two = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert [line["step"] for line in one] == [line["step"] for line in two]
    for a, b in zip(one, two, strict=True):
        assert a.pop("stage") == b.pop("stage")
        assert a == pytest.approx(b, abs=1e-5, rel=1e-5)
    expected, found = weights(tmp_path / "one", "small"), weights(tmp_path / "two", "small")
    assert max(float((expected[k] - found[k]).abs().max()) for k in expected) < 1e-10
