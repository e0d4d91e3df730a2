"""The latency predictor: parts of it by hand, the contract, saving, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cost_models.latency import latency
from cost_models.latency_blocks import BlockFit, BlockLayout
from cost_models.latency_kernels import KernelColumns, KernelTimes
from cost_models.latency_linear import LinearFit
from cost_models.latency_xgb import LatencyXGB
from cost_models.roofline import Roofline
from hwnas.calibration.accuracy import Accuracy
from hwnas.cost import CostContext
from hwnas.cost.lowering import lower
from hwnas.device import find
from hwnas.errors import CostError
from hwnas.measure.lowering import steps_of
from hwnas.measure.measurement import Measurement
from hwnas.space import SearchSpace, ordinal, repeat
from hwnas.testing import check_cost_model
from search_spaces.mobile_cnn import mobile_cnn
from search_spaces.sam import sam_vit_t

DEVICE = "x86-avx512-vnni"


@pytest.fixture(scope="module")
def blocks() -> SearchSpace:
    """A space that does not say what its layers are."""
    return SearchSpace(
        "blocks",
        [
            ordinal("size", (1, 2, 4), role="resolution"),
            ordinal("depth", (1, 2, 3, 4), role="depth"),
            repeat("b", 4, [ordinal("k", (1, 3, 5)), ordinal("w", (1, 2, 4))], depth="depth"),
        ],
    )


def at(arch) -> range:
    return range(arch["depth"])


def times_of_blocks(archs) -> np.ndarray:
    """A constant, and for each block a product of its genes and the size."""
    return np.array(
        [
            0.5 + sum(a["size"] * a[f"b.{i}.k"] * a[f"b.{i}.w"] * (1 + i) for i in at(a))
            for a in archs
        ]
    )


def noisy(y: np.ndarray, sd: float, seed: int = 0) -> np.ndarray:
    return y * np.exp(np.random.default_rng(seed).normal(0, sd, len(y)))


def test_left_out_predictions_are_those_of_fits_without_the_row() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (30, 4))
    y = 1.0 + x @ np.array([1.0, 2.0, 0.0, 3.0]) + rng.normal(0, 0.05, 30)
    fit = LinearFit.of(x, y)
    plain = [LinearFit.of(np.delete(x, i, 0), np.delete(y, i)).predict(x[[i]])[0] for i in (0, 7)]
    assert fit.left_out[[0, 7]] == pytest.approx(plain, rel=2e-3)
    assert Accuracy.of(y, fit.predict(x)).mape < 3


def test_prior_holds_where_there_is_nothing_to_learn() -> None:
    x = np.random.default_rng(0).uniform(1, 2, (12, 3))
    fit = LinearFit.of(x, x.sum(axis=1), prior=np.ones(3))
    assert fit.weights == pytest.approx(np.ones(3))
    assert fit.constant == pytest.approx(0.0, abs=1e-9)


def test_blocks_recover_sums_of_products(blocks: SearchSpace) -> None:
    archs = blocks.sample(np.random.default_rng(1), 300).unique()
    y, x = times_of_blocks(archs), archs.matrix.astype(float)
    fit = BlockFit.of(x[:100], noisy(y[:100], 0.01), BlockLayout(blocks))
    assert Accuracy.of(y[100:], fit.predict(x[100:])).mape < 2
    assert Accuracy.of(y[:100], fit.left_out).mape < 3


def test_it_keeps_every_promise_and_beats_trees(blocks: SearchSpace) -> None:
    context = CostContext(blocks)
    archs = blocks.sample(np.random.default_rng(2), 260).unique()
    y = times_of_blocks(archs)
    model = LatencyXGB(context).fit(archs[:120], noisy(y[:120], 0.02))
    assert model.structure().startswith("blocks of genes")
    own = Accuracy.of(y[120:], model.evaluate(archs[120:]))
    trees = model.baselines()["XGBoost on genes"](archs[:120], y[:120], archs[120:])
    assert own.mape < 3 < Accuracy.of(y[120:], trees).mape
    batch = model.estimate(archs[120:])
    assert batch.lo is not None
    assert batch.hi is not None
    seen = noisy(y, 0.02, seed=5)[120:]
    assert 0.8 <= ((batch.lo <= seen) & (seen <= batch.hi)).mean()
    assert check_cost_model(model, context) == []


def test_sums_over_layers_where_a_space_has_them() -> None:
    space = mobile_cnn()
    truth = Roofline(CostContext(space, find("raspberry-pi-5")))
    archs = space.sample(np.random.default_rng(0), 120).unique()
    y = truth.evaluate(archs)
    context = CostContext(space)
    model = LatencyXGB(context).fit(archs[:80], noisy(y[:80], 0.01))
    assert model.structure().startswith("sums over layers")
    assert Accuracy.of(y[80:], model.evaluate(archs[80:])).mape < 2
    assert check_cost_model(model, context, n=3) == []


def test_what_was_never_measured_is_flagged(blocks: SearchSpace) -> None:
    archs = blocks.sample(np.random.default_rng(3), 200).unique()
    small = archs.take([a["size"] < 4 for a in archs])
    model = LatencyXGB(CostContext(blocks)).fit(small, times_of_blocks(small))
    batch = model.estimate(archs)
    assert batch.extrapolating.tolist() == [a["size"] == 4 for a in archs]
    assert batch.hi is not None
    ratio = np.log(batch.hi / batch.value)
    assert ratio[batch.extrapolating].min() == pytest.approx(2 * ratio[~batch.extrapolating].max())


def test_leverage_tells_mixtures_that_no_row_had() -> None:
    """Two columns that always went together: the hull of each holds what none of them did."""
    rng = np.random.default_rng(0)
    a = rng.uniform(1, 2, 60)
    x = np.stack([a, a + rng.normal(0, 0.01, 60)], axis=1)
    fit = LinearFit.of(x, x.sum(axis=1) * np.exp(rng.normal(0, 0.01, 60)))
    assert fit.beyond(np.array([[1.2, 1.8], [1.5, 1.5]])).tolist() == [True, False]
    fresh = rng.uniform(1, 2, 300)
    rows = np.stack([fresh, fresh + rng.normal(0, 0.01, 300)], axis=1)
    assert fit.beyond(rows).mean() < 0.06


def test_disturbed_times_count_less() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 2, (80, 3))
    y = x @ np.array([1.0, 2.0, 3.0]) * np.exp(rng.normal(0, 0.01, 80))
    y[::8] *= 1.4
    fit = LinearFit.of(x, y)
    clean = np.arange(80) % 8 != 0
    assert Accuracy.of(y[clean], fit.predict(x[clean])).mape < 1.2


def test_times_never_weigh_less_than_nothing() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 2, (40, 3))
    fit = LinearFit.of(x, x @ np.array([2.0, 1.0, -0.3]), prior=np.array([1.0, 1.0, 1.0]))
    assert (fit.weights >= 0).all()
    assert fit.weights[2] == 0
    assert Accuracy.of(x @ np.array([2.0, 1.0, -0.3]), fit.predict(x)).mape < 4


def kernel_store(
    space: SearchSpace, device, archs, prompts: int = 1, every: int = 2
) -> tuple[list, np.ndarray]:
    """Made-up times of kernels, each `every`th of them measured, and of whole subnets."""
    times: dict[str, float] = {}
    totals = []
    for arch in archs:
        total = 0.0
        for step in steps_of(lower(space, arch), device):
            size = float(np.prod([max(1, s) for s in step.kernel.shape[:3]]))
            times[step.kernel.key] = 1e-3 + 1e-7 * size * (1 + step.kernel.a_bits / 16)
            total += times[step.kernel.key] * (prompts if step.per_prompt else 1)
        totals.append(1.1 * total)
    rows = [
        Measurement("kernel", key, device.fingerprint, "test", "ok", ms)
        for key, ms in sorted(times.items())[::every]
    ]
    return rows, np.array(totals)


@pytest.fixture(scope="module")
def measured():
    space, device = sam_vit_t(), find(DEVICE)
    archs = space.sample(np.random.default_rng(0), 40).unique()
    rows, y = kernel_store(space, device, archs)
    return CostContext(space, device, store=rows), archs, y


def test_kernel_columns_equal_a_loop_over_the_steps(measured) -> None:
    context, archs, _ = measured
    times = KernelTimes.fitted(context)
    assert times is not None
    columns = KernelColumns(context, times, prompts=3)
    found = columns.matrix(archs[:3])
    for arch, row in zip(archs[:3], found, strict=True):
        steps = steps_of(lower(context.space, arch), context.device)
        runs = [3 if step.per_prompt else 1 for step in steps]
        known = [
            n * times.measured[s.kernel.key]
            for s, n in zip(steps, runs, strict=True)
            if s.kernel.key in times.measured
        ]
        values = dict(zip(columns.names, row, strict=True))
        assert values["kernels"] == sum(runs)
        total = (
            sum(v for name, v in values.items() if name.endswith(" ms"))
            - 2 * values["not measured ms"]
        )
        assert total == pytest.approx(sum(known))


def test_predictor_of_kernels_survives_saving(measured, tmp_path: Path) -> None:
    context, archs, y = measured
    model = LatencyXGB(context, only=("sum of kernels",)).fit(archs[:30], y[:30])
    assert Accuracy.of(y[30:], model.evaluate(archs[30:])).mape < 5
    model.save(tmp_path)
    # the store is not needed any more
    bare = CostContext(context.space, context.device)
    loaded = LatencyXGB.load(tmp_path, bare)
    assert loaded.evaluate(archs).tolist() == model.evaluate(archs).tolist()
    assert latency(bare, predictor=str(tmp_path)).fidelity == "predicted"
    assert latency(bare).fidelity == "estimated"


def test_other_prompts_follow_from_the_kernels(measured, tmp_path: Path) -> None:
    """With all kernels measured: one that was not is a guess, and more prompts repeat its error."""
    context, archs, _ = measured
    rows, y = kernel_store(context.space, context.device, archs, every=1)
    full = CostContext(context.space, context.device, store=rows)
    LatencyXGB(full, only=("sum of kernels",)).fit(archs[:30], y[:30]).save(tmp_path)
    five = LatencyXGB.load(tmp_path, full, prompts=5).estimate(archs)
    true = kernel_store(context.space, context.device, archs, prompts=5)[1]
    assert Accuracy.of(true, five.value).mape < 0.5
    assert five.extrapolating.all()


def test_a_predictor_belongs_to_its_device_and_space(measured, tmp_path: Path) -> None:
    context, archs, y = measured
    LatencyXGB(context, only=("roofline by kind",)).fit(archs, y).save(tmp_path)
    with pytest.raises(CostError, match="a latency belongs to processor, runtime"):
        LatencyXGB.load(tmp_path, CostContext(context.space, find("jetson-orin")))
    with pytest.raises(CostError, match="calibrate the device for it"):
        LatencyXGB.load(tmp_path, CostContext(mobile_cnn(), context.device))
    (file,) = tmp_path.glob("arrays-*.npz")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(CostError, match="damaged"):
        LatencyXGB.load(tmp_path, context)
    with pytest.raises(CostError, match="no latency predictor there"):
        LatencyXGB.load(tmp_path / "nothing", context)


def test_saving_twice_leaves_one_model(blocks: SearchSpace, tmp_path: Path) -> None:
    context = CostContext(blocks)
    archs = blocks.sample(np.random.default_rng(2), 60).unique()
    for sd in (0.02, 0.3):
        LatencyXGB(context).fit(archs, noisy(times_of_blocks(archs), sd)).save(tmp_path)
    files = json.loads((tmp_path / "model.json").read_text())["files"].values()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*files, "model.json"])


def test_refusals(blocks: SearchSpace, tmp_path: Path) -> None:
    context = CostContext(blocks)
    model = LatencyXGB(context)
    archs = blocks.sample(np.random.default_rng(0), 40).unique()
    with pytest.raises(CostError, match="learned from nothing"):
        model.evaluate(archs)
    with pytest.raises(CostError, match="at least 8"):
        model.fit(archs[:5], np.ones(5))
    with pytest.raises(CostError, match="positive and finite"):
        model.fit(archs, np.zeros(len(archs)))
    with pytest.raises(CostError, match="needs a device"):
        latency(context)
    model.fit(archs, times_of_blocks(archs)).save(tmp_path)
    with pytest.raises(CostError, match="do not tell what 4 cost"):
        LatencyXGB.load(tmp_path, context, prompts=4)
