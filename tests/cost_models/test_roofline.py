"""The roofline against a loop over layers, its interval, and what it refuses."""

import copy

import numpy as np
import pytest

from cost_models.roofline import Energy, Roofline
from cost_models.roofline_layers import EFFICIENCY_FACTORS, FACTORS
from hwnas.cost import CostContext, build, estimate
from hwnas.cost.lowering import lower
from hwnas.device import find, from_dict
from hwnas.device.efficiency import layer_kind
from hwnas.errors import CostError, DeviceError
from hwnas.space import SearchSpace, ordinal
from hwnas.workload import ops
from hwnas.workload.ops import Bits
from search_spaces.sam import sam_vit_t

BOARD = {
    "id": "board",
    "name": "A board of round numbers",
    "kind": "other",
    "runtime": {"name": "none"},
    "peak_tops_dense": {
        "fp32": {"value": 0.2, "status": "verified", "source": "test"},
        "fp16": {"value": 0.4, "status": "verified", "source": "test"},
        "int8": {"value": 2.0, "status": "verified", "source": "test"},
    },
    "bandwidth_gbps": {"value": 10, "status": "verified", "source": "test"},
    "ram_bytes": {"value": 1e9, "status": "verified", "source": "test"},
    "pairs": [
        {"w": 32, "a": 32, "runs_as": "fp32"},
        {"w": 16, "a": 16, "runs_as": "fp16"},
        {"w": 8, "a": 8, "runs_as": "int8"},
    ],
    "packed_weight_bits": [4, 8],
    "launch_us": {"value": 5, "status": "verified", "source": "test"},
    "efficiency": {
        "gemm": {"value": 0.5, "status": "fitted", "source": "test"},
        "memory": {"value": 0.5, "status": "fitted", "source": "test"},
    },
    "power_w": {
        "min": {"value": 2, "status": "verified", "source": "test"},
        "max": {"value": 10, "status": "verified", "source": "test"},
    },
}


def board(**changes):
    return from_dict(copy.deepcopy(BOARD) | changes)


def one_layer_space(bits, rows=64, width=256, per_prompt=False):
    """A space of one dense layer, whose time can be worked out by hand."""

    def layers(arch):
        return (ops.linear("l", rows, width, width, bits, per_prompt=per_prompt),)

    space = SearchSpace("one", [ordinal("n", (1, 2))], lower=layers)
    return space, space.arch({"n": 1})


def milliseconds(device, bits, **sizes):
    space, arch = one_layer_space(bits, **sizes)
    return float(Roofline(CostContext(space, device)).evaluate([arch])[0])


@pytest.fixture(scope="module")
def context():
    return CostContext(sam_vit_t(), find("jetson-orin"))


@pytest.fixture(scope="module")
def archs(context):
    return context.space.sample(np.random.default_rng(2), 6)


def seconds_by_loop(device, layers, prompts, lean=0, fused=False):
    """The slow twin: one layer after the other, straight from the profile."""

    def moved(figure, factors):
        return figure.value * factors[figure.status] ** lean

    def share(kind, dtype=None):
        name, figures = layer_kind(kind), device.spec.efficiency
        figure = figures.get(f"{name}.{dtype}", figures[name])
        return min(1.0, moved(figure, EFFICIENCY_FACTORS))

    def bits_in_memory(bits):
        return device.execution(bits, bits).a_bits_in_memory

    total = 0.0
    for x in layers:
        weight_bits, compute = x.w_bits, 0.0
        if x.macs:
            run = device.execution(x.w_bits, x.a_bits)
            weight_bits = run.w_bits_in_memory
            peak = moved(device.spec.peak_tops_dense[run.dtype], FACTORS) * 1e12 / 2
            compute = x.macs / (share(x.kind, run.dtype) * peak)
        elif fused:
            continue
        bits = x.weight_elems * weight_bits + 32 * (x.bias_elems + x.scales)
        bits += x.in_elems * bits_in_memory(x.a_bits) + x.out_elems * bits_in_memory(x.out_bits)
        bits += x.extra_in_elems * bits_in_memory(x.w_bits)
        bandwidth = moved(device.spec.bandwidth_gbps, FACTORS) * 1e9 * share("memory")
        launch = device.launch_s / FACTORS[device.spec.launch_us.status] ** lean
        total += (max(compute, bits / 8 / bandwidth) + launch) * (prompts if x.per_prompt else 1)
    return total


@pytest.mark.parametrize("name", ["jetson-orin", "raspberry-pi-4", "edge-tpu", "h200"])
def test_latency_equals_the_loop(name):
    context = CostContext(sam_vit_t(), find(name))
    archs = context.space.sample(np.random.default_rng(1), 3)
    model = Roofline(context, prompts=3)
    batch = model.estimate(archs)
    assert batch.value.tolist() == model.evaluate(archs).tolist()
    for i, arch in enumerate(archs):
        layers = lower(context.space, arch).layers
        for values, lean in ((batch.value, 0), (batch.lo, 1), (batch.hi, -1)):
            expected = seconds_by_loop(context.device, layers, 3, lean, fused=lean == 1)
            assert values[i] == pytest.approx(1e3 * expected, rel=1e-12)


def test_one_layer_by_hand():
    # few rows wait for memory (0.5 x 10 GB/s), many for the multipliers (0.5 x 1e12 MAC/s)
    weights, tensors, constants = 256 * 256, 2 * 64 * 256, 4 * (256 + 256 + 2)
    moved = weights + tensors + constants
    assert milliseconds(board(), Bits(8, 8, 8)) == pytest.approx(1e3 * (moved / 5e9 + 5e-6))
    wide = milliseconds(board(), Bits(8, 8, 8), rows=64 * 64)
    assert wide == pytest.approx(1e3 * (64 * 64 * 256 * 256 / 5e11 + 5e-6))


def test_narrow_weights_save_traffic_and_no_multiplications():
    moving = [milliseconds(board(), Bits(w, 8, 8), rows=1) for w in (8, 4, 3)]
    assert moving[1] < moving[0]
    assert moving[2] == moving[1]  # 3 bits lie in memory as 4
    multiplying = [milliseconds(board(), Bits(w, 8, 8), rows=64 * 64) for w in (8, 4)]
    assert multiplying[0] == multiplying[1]


def test_an_emulated_pair_runs_as_the_next_wider_native_one():
    assert milliseconds(board(), Bits(4, 4, 8), rows=4096) == milliseconds(
        board(), Bits(8, 8, 8), rows=4096
    )
    assert milliseconds(board(), Bits(16, 8, 8), rows=4096) > 4 * milliseconds(
        board(), Bits(8, 8, 8), rows=4096
    )


def test_below_the_ridge_a_faster_multiplier_saves_nothing():
    peaks = copy.deepcopy(BOARD["peak_tops_dense"])
    peaks["int8"]["value"] = 200.0
    fast, slow = board(peak_tops_dense=peaks), board()
    bits = Bits(8, 8, 8)
    assert milliseconds(fast, bits, rows=1) == milliseconds(slow, bits, rows=1)
    assert milliseconds(fast, bits, rows=4096) < milliseconds(slow, bits, rows=4096)


def test_a_pair_that_nothing_can_run_is_a_named_error():
    only_int8 = board(peak_tops_dense={"int8": 2.0}, pairs=[{"w": 8, "a": 8, "runs_as": "int8"}])
    with pytest.raises(DeviceError, match="board cannot run w16a16"):
        milliseconds(only_int8, Bits(16, 16, 16))
    assert milliseconds(only_int8, Bits(8, 8, 16)) > 0


def test_prompts_repeat_the_decoder_alone(context, archs):
    one, two, five = (Roofline(context, prompts=n).evaluate(archs) for n in (1, 2, 5))
    assert five - one == pytest.approx(4 * (two - one))
    assert Roofline(context, prompts=5).prompts == 5


def test_the_interval_is_wide_and_says_that_it_is_an_estimate(context, archs):
    batch = estimate(build(Roofline, context), archs)
    assert np.all(batch.lo * 1.5 < batch.value)
    assert np.all(batch.value * 1.5 < batch.hi)
    assert batch.fidelity == "estimated"
    assert batch.level is None
    assert batch.unit == "ms"


def test_better_figures_narrow_the_interval():
    recalled = copy.deepcopy(BOARD)
    recalled["efficiency"]["gemm"]["status"] = "recalled"
    space, arch = one_layer_space(Bits(8, 8, 8), rows=4096)
    widths = []
    for device in (from_dict(recalled), board()):
        batch = Roofline(CostContext(space, device)).estimate([arch])
        widths.append(float(batch.hi[0] / batch.lo[0]))
    assert widths[1] < widths[0] / 2


def test_the_breakdown_adds_up(context, archs):
    model = Roofline(context, prompts=2)
    parts = model.breakdown(archs[0])
    assert sum(parts.values()) == pytest.approx(model.evaluate(archs[:1])[0])
    assert "mask_decoder" in parts


def test_a_missing_device_is_asked_for():
    with pytest.raises(CostError, match=r"cost model latency needs a device.*hwnas devices list"):
        build(Roofline, CostContext(sam_vit_t()))


def test_energy_is_power_times_time_where_nothing_better_is_known():
    space, arch = one_layer_space(Bits(8, 8, 8), rows=4096)
    context = CostContext(space, board())
    latency, energy = (m(context).estimate([arch]) for m in (Roofline, Energy))
    assert energy.value[0] == pytest.approx(10 * latency.value[0])
    assert energy.lo[0] == pytest.approx(2 * latency.lo[0])
    assert energy.hi[0] == pytest.approx(10 * latency.hi[0])
    assert energy.unit == "mJ"


def test_energy_by_operations():
    figure = lambda value: {"value": value, "status": "derived", "source": "test"}  # noqa: E731
    energy = {"pj_per_mac": {"int8": figure(0.5)}, "pj_per_dram_byte": figure(20)}
    space, arch = one_layer_space(Bits(8, 8, 8))
    batch = Energy(CostContext(space, board(energy=energy))).estimate([arch])
    moved = 256 * 256 + 2 * 64 * 256 + 4 * (256 + 256 + 2)
    expected = (0.5 * 64 * 256 * 256 + 20 * moved) * 1e-9
    assert batch.value[0] == pytest.approx(expected)
    assert batch.lo[0] == pytest.approx(expected / FACTORS["derived"])
    assert batch.hi[0] == pytest.approx(expected * FACTORS["derived"])
    space, arch = one_layer_space(Bits(16, 16, 16))
    with pytest.raises(CostError, match="no pj_per_mac for fp16"):
        Energy(CostContext(space, board(energy=energy))).evaluate([arch])


def test_energy_without_power_is_refused():
    silent = {key: value for key, value in BOARD.items() if key != "power_w"}
    space, _ = one_layer_space(Bits(8, 8, 8))
    with pytest.raises(CostError, match="neither power_w nor energy"):
        Energy(CostContext(space, from_dict(silent)))
