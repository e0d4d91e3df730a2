"""`hwnas study sensitivity` after `kill -9`: the same study, and nothing is measured twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hwnas.cli import study_sensitivity as command
from hwnas.errors import CostError, RunError
from hwnas.workflows.sensitivity import SensitivityOptions, SensitivityStudy, study_sensitivity
from tests.workflows.dying import asked, kill_at, run, take_up, write_plugin


def arguments(plugin: Path) -> list[str]:
    return ["toy", "--cost", f"{plugin}:Errors", "--against", f"{plugin}:Noted", "--top", "1",
            "--plans", "6", "--set", "freeze.depth=3", "--set", "freeze.resolution=64"]  # fmt: skip


def keys(log: bytes) -> list[str]:
    return [json.loads(line)["key"] for line in log.decode().splitlines()]


@pytest.mark.parametrize("lines", [2, 3, 7])
def test_a_killed_study_goes_on_and_ends_the_same(lines: int, tmp_path: Path) -> None:
    plugin, out = write_plugin(tmp_path / "plugin"), tmp_path / "out"
    whole = run(command, [*arguments(plugin), "--out", str(tmp_path / "whole")])
    everything = asked(plugin)
    assert everything[:3] == ["block 0", "block 1", "block 2"]
    kept = kill_at(plugin, "sensitivity", arguments(plugin), out, lines)
    done = len(keys(kept))
    found, again = take_up(command, plugin, arguments(plugin), out, kept)
    assert found == whole
    # the optimum is a line as well, of which the plug-in is not asked
    measured = done - ("optimum" in keys(kept))
    assert again == everything[measured:]
    for name in ("tables.json", "matrices.csv", "sensitivity.json", "sensitivity.md"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_more_plans_may_be_added_and_nothing_else(tmp_path: Path) -> None:
    plugin, out = write_plugin(tmp_path / "plugin"), tmp_path / "out"

    def study(out: Path | None, **changed: Any) -> SensitivityStudy:
        given: dict[str, Any] = {
            "cost": f"{plugin}:Errors", "against": "toy_quality", "top": 0.5, "plans": 4,
            "freeze": {"depth": 3, "resolution": 64}, **changed,
        }  # fmt: skip
        resume = out is not None and out.exists()
        return study_sensitivity("toy", options=SensitivityOptions(**given), out=out, resume=resume)

    study(out)
    log = (out / "measurements.jsonl").read_bytes()
    more = study(out, top=1.0, plans=8)
    assert (out / "measurements.jsonl").read_bytes().startswith(log)
    assert more == study(None, top=1.0, plans=8)
    assert keys((out / "measurements.jsonl").read_bytes()).count("optimum") == 1
    with pytest.raises(RunError, match=r"against\.spec: began with 'toy_quality', now '.*Noted'"):
        study(out, against=f"{plugin}:Noted")
    with pytest.raises(RunError, match=r"cost\.options: began with {}, now {'factor': 2.0}"):
        study(out, options={f"{plugin}:Errors": {"factor": 2.0}})
    with pytest.raises(RunError, match="seed: began with 0, now 1"):
        study(out, seed=1)
    genes = {f"blocks.{i}.{n}": v for i in range(3) for n, v in (("width", 32), ("bits", 8))}
    with pytest.raises(CostError, match="bitops has no matrices"):
        study(tmp_path / "none", cost="bitops", freeze=genes)
    assert not (tmp_path / "none").exists()
