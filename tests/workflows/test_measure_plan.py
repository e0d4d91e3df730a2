"""Planning a campaign, amounts, ways to reach a device: everything before a device is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.config import make_measuring
from hwnas.device import find
from hwnas.errors import ConfigError, DeviceError
from hwnas.measure.connection import check_reachable
from hwnas.space import load_space
from hwnas.workflows.measure import Amounts, measure, plan_campaign
from hwnas.workflows.measurements import (
    export_measurements,
    import_measurements,
    list_measurements,
)


def test_equal_arguments_plan_the_same_and_more_goes_on_where_less_ended() -> None:
    space, device = load_space("toy"), find("host")
    few, same, more = (
        plan_campaign(space, device, Amounts(samples=n, subnets=n // 2), seed=1)
        for n in (10, 10, 20)
    )
    assert [i.key for i in few.items] == [i.key for i in same.items]
    assert {i.key for i in few.items} < {i.key for i in more.items}
    assert (few.kernels, few.subnets) == (10, 5)


def test_kernels_and_subnets_take_turns() -> None:
    plan = plan_campaign(load_space("toy"), find("host"), Amounts(samples=20, subnets=5))
    kinds = [item.kind for item in plan.items]
    assert [kinds[i : i + 5].count("subnet") for i in range(0, 25, 5)] == [1] * 5
    picked = {i.details["picked"] for i in plan.items if i.kind == "subnet"}
    assert picked == {"cover", "random"}


def test_time_alone_plans_all_kernels() -> None:
    plan = plan_campaign(load_space("toy"), find("host"), Amounts(minutes=1))
    assert plan.kernels == plan.kernels_of_space > 20
    assert plan.subnets >= plan.kernels // 4


def test_a_subnet_says_what_it_is() -> None:
    space, device = load_space("toy"), find("host")
    plan = plan_campaign(space, device, Amounts(samples=0, subnets=1, prompts=3))
    (item,) = plan.items
    arch = space.arch(item.details["genes"])
    assert item.key == f"{arch.id}-3prompts"
    network = item.subject()
    assert (network.key, network.prompts) == (item.key, 3)
    assert network.steps


def test_every_amount_that_makes_no_sense_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        Amounts(samples=-1, subnets=-2, minutes=0, prompts=0)
    for words in ("--samples -1", "--subnets -2", "--minutes 0", "--prompts 0"):
        assert words in str(caught.value)


def test_uncertain_subnets_need_a_predictor() -> None:
    with pytest.raises(ConfigError, match=r"jetson.*no predictor of toy"):
        measure("jetson-orin", space="toy", amounts=Amounts(uncertain=3))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rpc": "box"}, "HOST:PORT"),
        ({"rpc": "box:99999"}, "HOST:PORT"),
        ({"rpc": "a:1", "tracker": "b:2"}, "give one of them"),
        ({"tracker": "b:2"}, "--key NAME"),
        ({"key": "pi"}, "--tracker"),
        ({"rpc": "a:1", "runner": "torch"}, "only tvm"),
        ({"runner": "tensorrt"}, "tvm"),
    ],
)
def test_ways_to_reach_a_device_that_make_no_sense(options: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_measuring(**options)


def test_a_device_is_measured_where_it_is() -> None:
    check_reachable(make_measuring(), find("host"), to="measuring")
    check_reachable(make_measuring(rpc="box:9090"), find("raspberry-pi-5"), to="measuring")
    check_reachable(make_measuring(runner="torch"), find("h200"), to="measuring")
    with pytest.raises(DeviceError, match=r"is not this machine.*--rpc HOST:PORT"):
        check_reachable(make_measuring(), find("raspberry-pi-5"), to="measuring")


def test_a_store_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    for look in (list_measurements, lambda p: export_measurements(p, tmp_path / "o.csv")):
        with pytest.raises(DeviceError, match="no store of measurements there"):
            look(tmp_path / "s.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_csv_into_a_new_store_and_out_again(tmp_path: Path) -> None:
    source, store = tmp_path / "a.csv", tmp_path / "s.sqlite"
    source.write_text("subject,key,fingerprint,runner,status,value_ms\nkernel,k,f,r,ok,1.5\n")
    assert import_measurements(store, source) == (1, 0)
    assert import_measurements(store, source) == (0, 1)
    assert export_measurements(store, tmp_path / "b.csv") == 1
    assert list_measurements(store) == [
        {"device": "f", "runner": "r", "what": "kernel", "status": "ok", "number": 1}
    ]
