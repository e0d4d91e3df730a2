"""TVM for real: programs compute what their kernels do, here and behind an RPC server."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from hwnas.device import find
from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels import SCHEDULE_VERSION
from hwnas.measure.lowering import Step
from hwnas.measure.program import Call, Program
from hwnas.measure.runners.local import LocalRunner
from hwnas.measure.runners.rpc import RpcRunner
from hwnas.measure.runners.spawned import Limits

tvm = pytest.importorskip("tvm")
pytestmark = [pytest.mark.tvm, pytest.mark.slow]

NORM = Kernel("norm", (16, 32), "fp32", 32, 32)
RELU = Kernel("relu", (512,), "fp32", 32, 32)
ADD = Kernel("add", (512,), "fp32", 32, 32)
LIMITS = Limits(budget_s=0.5)
KEY = "board"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="module")
def executor(cache):
    from hwnas.measure.builder import Builder
    from hwnas.measure.executor import Executor

    return Executor(Builder(find("host"), cache))


@pytest.fixture(scope="module")
def program(executor):
    """relu(norm(first half of x)) + norm(first half of x), twice relu at the end."""
    norm, relu, add = (executor.part(kernel) for kernel in (NORM, RELU, ADD))
    parts = (norm, relu, add)
    return Program(
        {"x": 1024},
        {f"c{i}": constant for i, constant in enumerate(norm.constants)},
        (
            Call(norm.function, (("x", 512),), ("c0", "c1"), "n", 512),
            Call(relu.function, (("n", 512),), (), "r", 512),
            Call(relu.function, (("x", 512),), (), "unread", 512),
            Call(add.function, (("r", 512), ("n", 512)), (), "s", 512),
        ),
        ("s", "r"),
        {part.function: part.library for part in parts},
        {part.function: part.object for part in parts},
    )


def run(module, executor, device):
    from hwnas.measure.executor import MAIN

    rng = np.random.default_rng(3)
    x = rng.standard_normal(1024, np.float32)
    gain, shift = rng.standard_normal((2, 32), np.float32)
    machine = tvm.relax.VirtualMachine(module, device)
    machine.set_input(MAIN, *(tvm.runtime.tensor(value, device) for value in (x, gain, shift)))
    machine.invoke_stateful(MAIN)
    found = [output.numpy() for output in machine.get_outputs(MAIN)]
    rows = x[:512].reshape(16, 32)
    centered = rows - rows.mean(1, keepdims=True)
    n = centered / np.sqrt((centered**2).mean(1, keepdims=True) + 1e-6) * gain + shift
    n = n.ravel()
    return found, [np.maximum(n, 0) + n, np.maximum(n, 0)]


def test_bytecode_finds_the_kernels_of_cached_libraries(program, executor):
    from hwnas.measure.executor import link

    found, expected = run(link(program, executor.target), executor, tvm.cpu())
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["program.so", "program.tar"])
def test_an_exported_program_needs_nothing_else(program, executor, tmp_path, name):
    from hwnas.measure.executor import export

    export(program, executor.target, tmp_path / name)
    module = tvm.runtime.load_module(str(tmp_path / name))
    found, expected = run(module, executor, tvm.cpu())
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_constants_are_copies_and_are_kept(executor):
    from hwnas.measure.executor import Constants

    constants = Constants(tvm.cpu())
    three = executor.repeat(NORM, 3)
    first = constants.arguments(three, executor.drawn)
    again = constants.arguments(three, executor.drawn)
    gains = [tensor.numpy() for tensor in first[1::2]]
    assert all((gain == gains[0]).all() for gain in gains)
    assert len({tensor.data_ptr() for tensor in first[1:]}) == 6
    assert [t.data_ptr() for t in first] == [t.data_ptr() for t in again]


def test_local_kernels_and_networks(cache):
    with LocalRunner(find("host"), cache, limits=LIMITS) as runner:
        kernel = runner.time(NORM)
        assert kernel.value_ms is not None, kernel.message
        assert kernel.runner == f"tvm {tvm.__version__}+schedules{SCHEDULE_VERSION}"
        assert kernel.reference_ms > 0
        assert kernel.details["copies"] > 1
        image, prompt = Step(NORM, ("a",), "g", False), Step(RELU, ("b",), "g", True)
        network = runner.time(("arch-2prompts", (image, prompt), 2))
        assert network.value_ms is not None, network.message
        assert (network.subject, network.key) == ("subnet", "arch-2prompts")
        assert network.details["calls"] == 3
        unknown = runner.time(Kernel("warp", (4,), "fp32", 32, 32))
        assert unknown.status == "failed"
        assert "warp" in unknown.message


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Place:
    """Processes of TVM's own server or tracker, on a free port of this machine."""

    def __init__(self, module, *options):
        self.port = free_port()
        self.command = [
            sys.executable, "-m", module, "--host", "127.0.0.1", "--port", str(self.port),
            "--port-end", str(self.port + 1), *options,
        ]  # fmt: skip
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, env={**os.environ, "TVM_NUM_THREADS": "1"},
        )  # fmt: skip

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def places():
    opened = []

    def start(*command):
        opened.append(Place(*command))
        return opened[-1]

    yield start
    for place in opened:
        place.kill()


def test_rpc_survives_a_server_that_is_killed_and_restarted(cache, places):
    server = places("tvm.exec.rpc_server")
    runner = RpcRunner(
        find("host"), "127.0.0.1", server.port, cache=cache, limits=Limits(budget_s=4.0)
    )
    with runner:
        before = runner.time(NORM)
        assert before.value_ms is not None, before.message
        assert before.runner == f"tvm-rpc {tvm.__version__}+schedules{SCHEDULE_VERSION}"
        assert before.details["address"] == f"127.0.0.1:{server.port}"

        def restart():
            time.sleep(0.3)  # in the middle of the next one
            server.kill()
            server.start()

        interruption = threading.Thread(target=restart)
        interruption.start()
        during = runner.time(Kernel("norm", (64, 32), "fp32", 32, 32))
        interruption.join()
        after = runner.time(("arch", (Step(NORM, ("a",), "g", False),), 1))
    assert during.value_ms is not None, during.message
    assert after.value_ms is not None, after.message


def test_rpc_finds_a_device_by_its_key_at_a_tracker(cache, places):
    tracker = places("tvm.exec.rpc_tracker")
    places("tvm.exec.rpc_server", "--tracker", f"127.0.0.1:{tracker.port}", "--key", KEY)
    runner = RpcRunner(find("host"), "127.0.0.1", tracker.port, KEY, cache=cache, limits=LIMITS)
    with runner:
        found = runner.time(NORM)
    assert found.value_ms is not None, found.message
    assert found.details["address"] == f"127.0.0.1:{tracker.port}, key {KEY}"


def test_without_a_server_the_runner_does_not_start(cache):
    from hwnas.errors import DeviceError

    runner = RpcRunner(find("host"), "127.0.0.1", free_port(), cache=cache, patience_s=0.1)
    with pytest.raises(DeviceError, match="no device at"):
        runner.time(NORM)
