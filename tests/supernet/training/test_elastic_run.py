"""A whole supernet run on a tiny model: phases, what trains, kill and resume, two processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.supernet.training.elastic_material import tiny_config, tiny_run

_PHASES = ["teacher", "resolution", "depth", "width", "bits-4", "bits-2"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """As the processes that are killed: another number of threads sums in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    run = tiny_run(tmp_path_factory.mktemp("whole"), tiny_config())
    assert list(run.train()) == _PHASES
    return _weights(run.supernet)


def test_only_adapters_norms_scales_and_decoder_train(
    undisturbed: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    fresh = _weights(tiny_run(tmp_path, tiny_config()).supernet)
    changed = {
        name for name, value in undisturbed.items()
        if name in fresh and not torch.equal(value, fresh[name])
    }  # fmt: skip
    matrices = {n for n in fresh if n.startswith("sam.image_encoder") and fresh[n].ndim > 1}
    assert not changed & matrices
    assert any("adapters" in name for name in changed)
    assert any(name.startswith("sam.mask_decoder") for name in changed)
    assert "sam.image_encoder.blocks.0.norm1.weight" in changed


def test_without_adapters_the_weights_train(tmp_path: Path) -> None:
    config = tiny_config(adapter={"layout": "none"}, train_decoder=False)
    before = _weights(tiny_run(tmp_path / "a", config).supernet)
    run = tiny_run(tmp_path / "b", config)
    run.train()
    after = _weights(run.supernet)
    assert not torch.equal(
        before["sam.image_encoder.blocks.0.attn.qkv.weight"],
        after["sam.image_encoder.blocks.0.attn.qkv.weight"],
    )
    decoder = [n for n in before if n.startswith("sam.mask_decoder")]
    assert all(torch.equal(before[n], after[n]) for n in decoder)


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter": {"layout": "selective", "rank": 2}, "order": "bits_then_arch"},
        {"adapter": {"layout": "shared", "rank": 2}, "order": "joint", "teacher": "in-place"},
        {"keep_open": False, "only": {"blocks.*.ratio": [4]}},
    ],
)
def test_other_recipes_run_to_the_end(tmp_path: Path, changes: dict[str, object]) -> None:
    run = tiny_run(tmp_path, tiny_config(**changes))
    figures = run.train()
    last = list(figures.values())[-1]
    assert last["steps"] > 0
    assert "val.box.2" in last


def test_kill_9_in_every_phase_and_resume_gives_the_same_weights(
    undisturbed: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    for phase in _PHASES:
        assert _start(tmp_path, phase) == -signal.SIGKILL
    assert _start(tmp_path, "") == 0
    run = tiny_run(tmp_path, tiny_config())
    run.train()  # everything is done: reads
    resumed = _weights(run.supernet)
    assert resumed.keys() == undisturbed.keys()
    assert [n for n in resumed if not torch.equal(resumed[n], undisturbed[n])] == []


def test_two_processes_follow_the_curve_of_one(tmp_path: Path) -> None:
    """Losses of every phase; weights differ more, where AdamW turns rounding into whole steps."""
    assert _start(tmp_path / "one", "") == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    ports = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    _call([*torchrun, *ports, __file__, str(tmp_path / "two"), ""])
    one, two = (_losses(tmp_path / name) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert len(one) > 10
    worst = max(one, key=lambda key: abs(two[key] / one[key] - 1))
    assert two[worst] == pytest.approx(one[worst], rel=0.01), worst


def _losses(folder: Path) -> dict[str, float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {
        f"{line['stage']} {line['step']} {key}": value
        for line in lines
        for key, value in line.items()
        if "loss" in key
    }


def _weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _start(folder: Path, kill_in: str) -> int:
    return _call([sys.executable, __file__, str(folder), kill_in])


def _call(command: list[str]) -> int:
    root = str(Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def _main(folder: str, kill_in: str) -> None:
    """Train in `folder`; kill this process in the second step of phase `kill_in`."""
    from hwnas.supernet.training.distributed import open_world
    from hwnas.supernet.training.loop import Progress

    def watch(progress: Progress) -> None:
        if progress.stage == kill_in and progress.step == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    with open_world("cpu") as world:
        tiny_run(Path(folder), tiny_config(), world=world, progress=watch).train()


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2])
