"""The machine that this runs on, from what the operating system says about it."""

import logging

import pytest

from hwnas.device import check, find, host_profile
from hwnas.device.machine import Machine, detect_machine, machine_from_cpuinfo
from hwnas.errors import DeviceError

X86 = """\
processor\t: 0
model name\t: Example  CPU @ 2.50GHz
cpu MHz\t\t: 2500.000
flags\t\t: fpu sse2 fma avx2 avx512f avx512_vnni amx_int8
"""

ARM = """\
processor\t: 0
Features\t: fp asimd evtstrm aes asimdhp cpuid asimdrdm asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b
"""


def machine(flags, **changes):
    known = {"clock_ghz": 2.0, **changes}
    return Machine("Example", "any", frozenset(flags.split()), threads=4, ram_bytes=2**33, **known)


@pytest.mark.parametrize(
    ("flags", "dtype", "per_cycle"),
    [
        ("", "fp32", 2),
        ("sse2", "fp32", 8),
        ("sse2 avx2", "fp32", 8),  # without FMA
        ("sse2 avx2 fma", "fp32", 32),
        ("sse2 avx2 fma", "int8", 42),
        ("sse2 avx2 fma avx_vnni", "int8", 128),
        ("sse2 avx2 fma avx512f", "fp32", 64),
        ("sse2 avx2 fma avx512f avx512_vnni", "int8", 256),
        ("sse2 avx2 fma avx512f avx512_vnni amx_int8", "int8", 256),  # our kernels have no AMX
        ("asimd", "fp32", 8),
        ("asimd", "int8", 16),
        ("asimd asimddp asimdhp", "fp32", 16),
        ("asimd asimddp asimdhp", "fp16", 32),
        ("asimd asimddp asimdhp", "int8", 64),
        ("asimd asimddp asimdhp i8mm", "int8", 128),
    ],
)
def test_peaks_follow_from_flags_threads_and_clock(flags, dtype, per_cycle):
    figure = host_profile(machine=machine(flags)).spec.peak_tops_dense[dtype]
    assert figure.value == pytest.approx(4 * 2.0 * per_cycle / 1000)
    assert figure.status == "derived"
    assert "4 threads x 2.00 GHz" in figure.source


def test_a_processor_without_int8_runs_it_as_fp32():
    run = host_profile(machine=machine("sse2")).execution(4, 8)
    assert (run.dtype, run.w_bits_in_memory) == ("fp32", 4)


def test_an_unknown_clock_makes_the_peaks_recalled():
    profile = host_profile(machine=machine("sse2", clock_ghz=None))
    assert profile.spec.peak_tops_dense["fp32"].status == "recalled"
    assert "clock unknown" in profile.spec.peak_tops_dense["fp32"].source


def test_bandwidth_is_recalled_until_somebody_measures():
    assert "bandwidth_gbps" in host_profile(machine=machine("sse2")).weak_figures()


def test_the_governor_is_the_mode_and_part_of_the_fingerprint():
    profile = host_profile(machine=machine("sse2", power_mode="powersave"))
    assert profile.key == "host:powersave"
    parts = profile.fingerprint.split(" | ")
    assert [parts[0], parts[2], parts[3]] == ["Example", "4 threads", "powersave"]
    assert parts[1].startswith("tvm")
    with pytest.raises(DeviceError, match="no mode 'performance'"):
        host_profile(mode="performance", machine=machine("sse2", power_mode="powersave"))


def test_cpuinfo_of_x86():
    found = machine_from_cpuinfo(X86, threads=2, ram_bytes=2**30)
    assert found.processor == "Example CPU @ 2.50GHz"
    assert found.clock_ghz == 2.5
    assert {"avx512_vnni", "amx_int8"} <= found.flags
    assert found.power_mode is None


def test_cpuinfo_of_arm_with_what_sys_adds():
    found = machine_from_cpuinfo(
        ARM, threads=4, ram_bytes=2**33, board="Raspberry Pi 5 Model B Rev 1.0",
        max_khz="2400000", governor="ondemand",
    )  # fmt: skip
    assert found.processor == "Arm Cortex-A76, Raspberry Pi 5 Model B Rev 1.0"
    assert found.clock_ghz == 2.4
    assert found.power_mode == "ondemand"
    # The detected machine and the file that ships agree.
    detected, shipped = host_profile(machine=found), find("raspberry-pi-5")
    for dtype in ("fp32", "fp16", "int8"):
        expected = shipped.peak_macs_per_s(dtype)
        assert detected.peak_macs_per_s(dtype) == pytest.approx(expected, rel=0.005)


def test_an_empty_cpuinfo_still_gives_a_profile():
    found = machine_from_cpuinfo("", threads=1, ram_bytes=2**30)
    profile = host_profile(machine=found)
    assert profile.peak_macs_per_s("fp32") > 0
    assert profile.execution(2, 2).dtype == "fp32"


def test_this_machine():
    found = detect_machine()
    assert found.processor
    assert found.threads >= 1
    assert found.ram_bytes > 2**28
    profile = find("host")
    assert profile.origin == "this machine"
    assert profile.threads == found.threads
    assert profile == find("host")  # nothing measured: the same twice
    assert [f for f in check("host") if f.level == "error"] == []


def test_a_calibrated_host_file_goes_first_and_a_foreign_one_is_noticed(
    tmp_path, monkeypatch, caplog
):
    import json

    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices").mkdir()
    file = tmp_path / "devices" / "host.yaml"
    file.write_text(json.dumps(host_profile().to_dict()))
    with caplog.at_level(logging.WARNING, logger="hwnas.device"):
        assert find("host").origin == str(file)
        assert not caplog.records
        file.write_text(json.dumps(host_profile(machine=machine("sse2")).to_dict()))
        assert find("host").name == "Example"
    assert "describes Example, but this machine is" in caplog.text
