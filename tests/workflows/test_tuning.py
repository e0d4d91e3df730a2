"""Tuning says what it does not do."""

import pytest

from hwnas.config import make_measuring
from hwnas.device import find
from hwnas.errors import ConfigError, DeviceError
from hwnas.workflows.tuning import TuningReport, tune_kernels


@pytest.mark.parametrize(
    ("device", "tries", "options", "reason"),
    [
        ("host", -1, {}, "--tune -1: expected 1 or more"),
        ("host", 3, {"runner": "torch"}, "torch has kernels of its own"),
        ("host", 3, {"rpc": "board:9090"}, "not over RPC"),
        ("h200", 3, {}, "kernels of GPUs"),
    ],
)
def test_what_is_not_tuned_is_refused(device, tries, options, reason):
    with pytest.raises(ConfigError, match=reason):
        tune_kernels([], find(device), tries, measuring=make_measuring(**options))


def test_another_machine_is_refused():
    with pytest.raises(DeviceError, match=r"tuning: raspberry-pi-5.* is not this machine"):
        tune_kernels([], find("raspberry-pi-5"), 3)


def test_a_report_in_words():
    report = TuningReport((1.0, 1.25, 1.5), 4, (("linear-1x1x1", "it crashed"),))
    assert report.sentence == (
        "tuned 3 kernels, 2 became faster (the median of those 1.50 times); 4 were tuned before; "
        "1 failed, first linear-1x1x1: it crashed"
    )
