"""Memory and time of a fine-tuning's step by method, on a tiny model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hwnas.adapters.stored import adapter_size
from hwnas.errors import ConfigError, PluginError
from hwnas.supernet.training.finetuning.step_cost import (
    FinetuneStepCost,
    FinetuneStepSpec,
    measure_finetune_step,
)
from hwnas.workflows import bench_finetune as bench
from hwnas.workload.adapter_choice import AdapterChoice
from tests.adapters.tiny_sam import GEOMETRY

MIB = 1 << 20
ADAPTERS = ("lora", "dora", "shira", "nas_lora", "conv_lora", "foura")


def _measured(method: str, **options: Any) -> FinetuneStepCost:
    spec = FinetuneStepSpec(GEOMETRY, method, options, resolution=64, images=1, prompts=2, steps=1)
    return measure_finetune_step(spec)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure in this process; what a new one takes is not looked at."""
    monkeypatch.setattr(bench, "in_fresh_process", lambda measure, spec: measure(spec))


@pytest.mark.usefixtures("here")
def test_every_method_has_a_row_and_what_merges_is_counted() -> None:
    rows = bench.bench_finetune(
        GEOMETRY, resolution=64, images=1, prompts=2, steps=1, rank=2, threads=1
    )
    found = {str(row["method"]): row for row in rows}
    assert tuple(found) == bench.METHODS
    assert all(list(row) == list(rows[0]) for row in rows)
    for row in rows:
        assert row["trained"] > 0  # type: ignore[operator]
        assert row["s/step"] > 0 < row["CPU s/step"]  # type: ignore[operator]
    assert [
        found["lora"][f"{what}, ratio"] for what in ("peak", "time", "CPU", "counted MACs")
    ] == [1] * 4
    counted = {name for name, row in found.items() if row["counted MiB"] is not None}
    assert counted == {"lora", "dora", "shira", "foura"}
    for name in ADAPTERS:
        size = adapter_size(AdapterChoice(name, 2, "all"), GEOMETRY)
        assert found[name]["stored MiB"] == size.stored_bytes / MIB
        assert found[name]["trained"] == size.trained
    for name in ("bitfit", "full", "decoder"):
        assert found[name]["stored MiB"] == 4 * found[name]["trained"] / MIB  # type: ignore[operator]
    merged = found["dora"]["counted MACs, ratio"]
    assert found["shira"]["counted MACs, ratio"] == pytest.approx(merged, rel=1e-6)
    assert merged > 1.02  # type: ignore[operator]
    json.dumps(rows)


def test_a_process_of_its_own_holds_more_in_the_step_than_before() -> None:
    first, second = bench.bench_finetune(
        GEOMETRY,
        methods=["shira", "bitfit"],
        resolution=64,
        images=1,
        prompts=2,
        steps=1,
        threads=1,
    )
    assert first["time, ratio"] == first["peak, ratio"] == 1  # there is no lora
    for row in (first, second):
        assert 0 < row["in the step MiB"] < row["peak MiB"]  # type: ignore[operator]


def test_a_relaxed_architecture_is_trained_in_every_step() -> None:
    own = _measured("nas_lora", rank=2)
    plain = _measured("lora", rank=2)
    assert len(own.seconds) == len(plain.seconds) == 1
    assert not own.merges
    assert plain.merges
    assert plain.has_product


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="tiny; expected one of sam-vit-t"):
        bench.bench_finetune("tiny")
    with pytest.raises(ConfigError, match=r"lora, lora, .*expected each method once"):
        bench.bench_finetune(GEOMETRY, methods=["lora", "lora"])
    with pytest.raises(ConfigError, match="a multiple of 16"):
        bench.bench_finetune(GEOMETRY, resolution=100)
    with pytest.raises(PluginError, match="lorra"):
        _measured("lorra", rank=2)
    with pytest.raises(ConfigError, match="resolution 32: too small"):
        measure_finetune_step(FinetuneStepSpec(GEOMETRY, "bitfit", resolution=32))
