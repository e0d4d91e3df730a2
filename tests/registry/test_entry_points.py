"""Plug-ins that installed packages announce, seen through invented distributions on the path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hwnas.errors import PluginError
from hwnas.registry import Registry

GROUP = "hwnas_test.cost_models"
Install = Callable[[str, dict[str, str]], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution that announces `points` on the path."""
    monkeypatch.syspath_prepend(tmp_path)

    def announce(distribution: str, points: dict[str, str]) -> None:
        info = tmp_path / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
        lines = [f"[{GROUP}]", *(f"{name} = {target}" for name, target in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")

    return announce


@pytest.fixture
def registry() -> Registry:
    return Registry(GROUP, "cost model")


def test_names_are_listed_without_importing(install: Install, registry: Registry) -> None:
    install("acme", {"npu": "acme_absent.models:Npu", "dsp": "acme_absent.models:Dsp"})
    assert registry.names() == ["dsp", "npu"]
    rows = registry.listing()
    assert [row.distribution for row in rows] == ["acme", "acme"]
    assert rows[1].target == "acme_absent.models:Npu"
    assert "acme_absent" not in sys.modules


def test_loads_what_is_announced(install: Install, registry: Registry) -> None:
    from collections import OrderedDict

    install("acme", {"npu": "collections:OrderedDict"})
    assert registry.load("npu") is OrderedDict


def test_broken_plugin_hurts_only_itself(install: Install, registry: Registry) -> None:
    install("acme", {"broken": "acme_absent.models:Npu", "fine": "collections:deque"})
    assert registry.load("fine") is not None
    message = r"the cost model 'broken' fails while importing acme_absent\.models: ModuleNotFound"
    with pytest.raises(PluginError, match=message):
        registry.load("broken")


def test_two_packages_with_one_name_are_both_named(install: Install, registry: Registry) -> None:
    install("acme", {"npu": "collections:deque"})
    install("bolt", {"npu": "collections:OrderedDict"})
    with pytest.raises(PluginError, match="two packages announce the cost model 'npu'") as caught:
        registry.names()
    assert "acme (collections:deque)" in str(caught.value)
    assert "bolt (collections:OrderedDict)" in str(caught.value)


def test_same_announcement_twice_is_one_plugin(install: Install, registry: Registry) -> None:
    install("acme", {"npu": "collections:deque"})
    install("acme_dev", {"npu": "collections:deque"})
    assert registry.names() == ["npu"]


def test_registered_name_may_not_hide_an_installed_one(
    install: Install, registry: Registry
) -> None:
    class Npu:
        pass

    install("acme", {"npu": "collections:deque"})
    registry.register("npu")(Npu)
    with pytest.raises(PluginError, match=r"'npu'.*Npu.*acme"):
        registry.load("npu")


def test_hidden_built_in_says_which_folder_hides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "cost_models"
    mine.mkdir()
    (mine / "__init__.py").write_text("")
    for name in [name for name in sys.modules if name.split(".")[0] == "cost_models"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("hwnas.cost_models", "cost model")
    try:
        with pytest.raises(PluginError) as caught:
            registry.load(registry.names()[0])
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "cost_models"]:
            del sys.modules[name]
    assert f"('cost_models' resolved to {mine}" in str(caught.value)
