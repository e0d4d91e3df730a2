"""A runner survives whatever its worker does; the process is real, the engine misbehaves."""

import os
from pathlib import Path

import pytest

from hwnas.device import find
from hwnas.errors import DeviceError
from hwnas.measure.kernel import Kernel
from hwnas.measure.runners.spawned import Limits, SpawnedRunner

LIMITS = Limits(start_s=60, build_s=1.0, run_s=1.0, budget_s=1.0)
HERE = Path(__file__).resolve().parent


def runner(**arguments):
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    return SpawnedRunner(
        "faulty", find("host"), "faulty_bench:FaultyBench", arguments,
        limits=LIMITS, environment={"PYTHONPATH": path},
    )  # fmt: skip


@pytest.fixture(scope="module")
def faulty():
    with runner() as opened:
        yield opened


def subject(kind):
    return Kernel(kind, (1,), "fp32", 32, 32)


def test_a_good_sample(faulty):
    found = faulty.time(subject("fine"))
    assert found.status == "ok"
    assert found.value_ms == 2.0
    assert found.runner == "faulty 1.0"
    assert found.fingerprint == find("host").fingerprint
    assert found.details["ran"] == "fine"
    assert found.details["clock_policy"] == "recorded"
    assert len(found.repeats_ms) == 40
    assert found.measured_at.endswith("+00:00")


@pytest.mark.parametrize(
    ("kind", "cause", "message"),
    [
        ("unsupported", "unsupported", "no such kernel here"),
        ("wrong", "build", "differs from torch by 0.5"),
        ("bug", "build", "ZeroDivisionError: division by zero"),
        ("lost", "connection", "the board is gone"),
        ("hang", "timeout", "killed while running: no answer within 1 s"),
        ("build_hang", "timeout", "killed while building: no answer within 1 s"),
        ("segfault", "crash", "the process died of SIGSEGV: about to crash"),
        ("exit", "crash", "the process ended with code 7"),
    ],
)
def test_a_bad_sample_costs_itself_alone(faulty, kind, cause, message):
    found = faulty.time(subject(kind))
    assert found.status == "failed"
    assert found.value_ms is None
    assert found.message == message
    assert found.details["cause"] == cause
    assert found.details.get("lost", False) == (kind == "lost")
    assert faulty.time(subject("fine")).status == "ok"


def test_what_a_lost_connection_interrupted_is_done_again(faulty):
    assert faulty.time(subject("lost_once")).status == "ok"


def test_a_worker_that_cannot_start_is_an_error():
    with runner(broken=True) as broken, pytest.raises(DeviceError) as error:
        broken.time(subject("fine"))
    assert str(error.value) == "the faulty runner does not start: no engine here; install one"


def test_after_closing_the_next_subject_starts_a_worker():
    opened = runner()
    assert opened.time(subject("fine")).status == "ok"
    opened.close()
    opened.close()
    assert opened.time(subject("fine")).status == "ok"
    opened.close()
