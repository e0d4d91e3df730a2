"""The device in the loop: what it asks for, and on this machine the contract of a cost model."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from cost_models.measured import Measured
from hwnas.cost import CostContext
from hwnas.device import find
from hwnas.errors import ConfigError, CostError, DeviceError
from hwnas.measure.items import network_key
from hwnas.measure.measurement import Measurement
from hwnas.measure.store import MeasurementStore
from hwnas.space import Archs, SearchSpace
from hwnas.testing.cost_models import check_cost_model
from search_spaces.toy import toy


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return toy()


def test_it_needs_a_device_that_can_be_reached(space: SearchSpace, tmp_path: Path) -> None:
    with pytest.raises(CostError, match="--device NAME"):
        Measured(CostContext(space=space))
    with pytest.raises(ConfigError, match=r"cost model measured.*\n.*HOST:PORT"):
        Measured(CostContext(space=space, device=find("host")), rpc="box")
    far = CostContext(space=space, device=find("raspberry-pi-5"))
    model = Measured(far, store=str(tmp_path / "s.sqlite"))
    with pytest.raises(DeviceError, match="not this machine"):
        model.evaluate(Archs.of(space, [space.smallest()]))
    with pytest.raises(CostError, match="prompts=0"):
        Measured(far, prompts=0)


@pytest.mark.tvm
def test_what_the_store_knows_is_not_measured(space: SearchSpace, tmp_path: Path) -> None:
    tvm = pytest.importorskip("tvm")
    device, arch = find("host"), space.smallest()
    context = CostContext(space=space, device=device)
    model = Measured(context, prompts=2, store=str(tmp_path / "s.sqlite"))
    model.evaluate(Archs.of(space, []))
    with MeasurementStore(tmp_path / "s.sqlite") as store:
        runner = _label()
        assert tvm.__version__ in runner
        known = Measurement(
            "subnet", network_key(arch.id, 2), device.fingerprint, runner, "ok", 123.0
        )
        store.add(known)
        failed = space.largest()
        store.add(
            Measurement(
                "subnet", network_key(failed.id, 2), device.fingerprint, runner, "failed", None,
                message="took > 60 s", details={"cause": "timeout"},
            )
        )  # fmt: skip
        assert model.evaluate(Archs.of(space, [arch])).tolist() == [123.0]
        with pytest.raises(CostError, match=f"{failed.id} could not be measured.*took > 60 s"):
            model.evaluate(Archs.of(space, [failed]))
        copy = pickle.loads(pickle.dumps(model))
        assert copy.evaluate(Archs.of(space, [arch])).tolist() == [123.0]
        assert len(store) == 2
    model.close()
    copy.close()


@pytest.mark.tvm
@pytest.mark.slow
def test_the_contract_of_a_cost_model(space: SearchSpace, tmp_path: Path) -> None:
    pytest.importorskip("tvm")
    context = CostContext(space=space, device=find("host"))
    model = Measured(context, store=str(tmp_path / "s.sqlite"))
    try:
        assert check_cost_model(model, context, n=2) == []
        batch = model.estimate(Archs.of(space, [space.smallest(), space.largest()]))
        assert (batch.fidelity, batch.lo) == ("measured", None)
        assert batch.value[0] < batch.value[1]
    finally:
        model.close()


def _label() -> str:
    """Name and version of the runner, as rows carry them."""
    from hwnas.config import make_measuring
    from hwnas.measure.connection import connect

    with connect(make_measuring(), find("host")) as connected:
        return connected.label
