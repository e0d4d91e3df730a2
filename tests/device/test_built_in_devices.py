"""The device files that ship: each one loads, is consistent, and says where it has its figures."""

import pytest

from hwnas.device import DeviceProfile, check, find, listing
from hwnas.device.fields import BARE_NUMBER_SOURCE

BUILT_IN = [entry for entry in listing() if entry.origin == "built-in"]
PROFILES = [
    find(entry.path, mode=mode)
    for entry in BUILT_IN
    if entry.path is not None
    for mode in entry.modes or (None,)
]

EXPECTED = {
    "jetson-agx-orin-64gb", "jetson-agx-orin-32gb", "jetson-orin-nx-16gb", "jetson-orin-nano-8gb",
    "raspberry-pi-4", "raspberry-pi-5", "x86-avx2", "x86-avx512-vnni", "x86-amx", "apple-m1",
    "apple-m2", "apple-m4", "snapdragon-8-gen-3", "edge-tpu", "t4", "l4", "a100-40gb", "a100-80gb",
    "h100-sxm", "h100-pcie", "h200", "xeon-vnni-1t",
}  # fmt: skip

each_device = pytest.mark.parametrize("entry", BUILT_IN, ids=lambda entry: entry.id)
each_profile = pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.key)


def test_every_promised_device_ships():
    assert {entry.id for entry in BUILT_IN} >= EXPECTED


@each_device
def test_file_has_no_errors_and_is_called_by_its_id(entry):
    findings = check(entry.id)
    assert [f for f in findings if f.level == "error"] == []
    assert entry.path.stem == entry.id


def test_no_name_is_claimed_twice():
    names = [name for entry in BUILT_IN for name in entry.names]
    assert sorted(names) == sorted(set(names))


@each_profile
def test_no_figure_is_a_bare_number(profile):
    sources = {figure.source for figure, _ in profile.figures().values()}
    assert BARE_NUMBER_SOURCE not in sources


@each_profile
def test_weak_figures_are_the_recalled_ones_that_an_estimate_uses(profile):
    weak = profile.weak_figures()
    assert {figure.status for figure in weak.values()} <= {"recalled"}
    # Nobody has calibrated a built-in device, so its launch time is recalled throughout.
    assert "launch_us" in weak


@each_profile
def test_every_width_of_a_default_space_runs(profile):
    for bits in ((16, 16), (8, 8), (6, 6), (4, 8), (4, 4), (3, 3), (2, 2)):
        run = profile.execution(*bits)
        assert profile.peak_macs_per_s(run.dtype) > 0
        assert run.w_bits_in_memory >= bits[0]
        assert run.a_bits_in_memory >= bits[1]


def test_float_layers_run_everywhere_and_as_fp16_on_the_hexagon_alone():
    runs_as = {profile.id: profile.execution(32, 32).dtype for profile in PROFILES}
    assert {name for name, dtype in runs_as.items() if dtype != "fp32"} == {"snapdragon-8-gen-3"}
    assert runs_as["snapdragon-8-gen-3"] == "fp16"


@each_profile
def test_fewer_bits_are_never_slower_or_larger(profile):
    runs = [profile.execution(bits, bits) for bits in (2, 3, 4, 6, 8, 16)]
    peaks = [profile.peak_macs_per_s(run.dtype) for run in runs]
    memory = [run.w_bits_in_memory for run in runs]
    assert peaks == sorted(peaks, reverse=True)
    assert memory == sorted(memory)


def test_jetson_orin_is_the_64_gb_module_at_full_clock():
    profile = find("jetson-orin")
    assert profile.key == "jetson-agx-orin-64gb:maxn"
    assert profile.peak_macs_per_s("int8") == pytest.approx(85e12 / 2)
    assert profile.peak_macs_per_s("fp32") == pytest.approx(5.3e12 / 2)
    assert profile.bandwidth_bytes_per_s == pytest.approx(204.8e9)
    assert profile.ram_bytes == 64 * 2**30
    assert profile.power_w == 60


# NVIDIA Deep-Learning-Accelerator-SW, sparse int8 TOPS of the GPU; dense is half.
@pytest.mark.parametrize(
    ("mode", "sparse"), [("maxn", 170), ("50w", 109), ("30w", 41), ("15w", 14)]
)
def test_jetson_orin_modes(mode, sparse):
    profile = find(f"jetson-orin:{mode}")
    peaks = profile.spec.peak_tops_dense
    assert peaks["int8"].value == pytest.approx(sparse / 2)
    assert peaks["fp16"].value == pytest.approx(sparse / 4)
    assert peaks["fp32"].value == pytest.approx(2048 * 2 * sparse / (64 * 2.048) / 1000, rel=0.01)


# cores, GHz, operations per cycle: the formulas of devices/README.md.
@pytest.mark.parametrize(
    ("name", "dtype", "cores", "ghz", "per_cycle"),
    [
        ("raspberry-pi-5", "fp32", 4, 2.4, 16),
        ("raspberry-pi-5", "fp16", 4, 2.4, 32),
        ("raspberry-pi-5", "int8", 4, 2.4, 64),
        ("raspberry-pi-4", "fp32", 4, 1.8, 8),
        ("x86-amx", "fp32", 56, 2.0, 64),
        ("x86-amx", "bf16", 56, 2.0, 1024),
        ("x86-amx", "int8", 56, 2.0, 2048),
        ("x86-avx512-vnni", "int8", 20, 1.6, 256),
        ("x86-avx2", "fp32", 6, 3.7, 32),
        ("jetson-orin-nx-16gb", "fp32", 1024, 0.918, 2),
        ("jetson-orin-nx-16gb", "int8", 32, 0.918, 1024),
        ("jetson-orin-nano-8gb:super", "int8", 32, 1.02, 1024),
    ],
)
def test_derived_peaks_follow_from_their_formula(name, dtype, cores, ghz, per_cycle):
    peak = find(name).spec.peak_tops_dense[dtype].value
    assert peak == pytest.approx(cores * ghz * per_cycle / 1000, rel=0.015)


def test_four_bit_weights_on_hopper_save_memory_only():
    narrow, wide = (find("h100").execution(bits, 8) for bits in (4, 8))
    assert narrow.dtype == wide.dtype == "int8"
    assert (narrow.w_bits_in_memory, wide.w_bits_in_memory) == (4, 8)
    assert "int4" not in find("h100").spec.peak_tops_dense


def test_energy_is_estimated_from_power_where_nothing_is_published():
    bases = {profile.id: profile.energy_basis for profile in PROFILES}
    assert bases.pop("xeon-vnni-1t") is None  # a virtual machine knows of no watts
    assert set(bases.values()) == {"power x time"}


def test_profiles_survive_the_way_to_a_worker_and_back():
    import json

    from hwnas.device import from_dict

    for profile in PROFILES:
        back = from_dict(json.loads(json.dumps(profile.to_dict())))
        assert back.key == profile.key
        assert back.figures() == profile.figures()
        assert back.to_dict() == profile.to_dict()
        assert isinstance(back, DeviceProfile)


@pytest.mark.tvm
def test_tvm_understands_every_target():
    tvm = pytest.importorskip("tvm", reason="needs apache-tvm: pip install 'hwnas[tvm]'")
    for profile in PROFILES:
        if profile.tvm_target is not None:
            assert tvm.target.Target(profile.tvm_target) is not None
