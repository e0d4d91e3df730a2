"""The three ways to name a plug-in: a registered name, a file, a module path."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.errors import PluginError
from hwnas.registry import Registry

ONE = """
from hwnas.registry import cost_models

@cost_models.register("one_file_npu")
class Npu:
    unit = "ms"
"""


@pytest.fixture
def registry() -> Registry:
    return Registry("hwnas_test.none_installed", "cost model")


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_decorator_makes_a_name_that_loads(registry: Registry) -> None:
    @registry.register("npu")
    class Npu:
        pass

    assert registry.names() == ["npu"]
    assert registry.load("npu") is Npu
    assert registry.listing()[0].target.endswith("Npu")


def test_same_name_by_two_classes_is_refused_and_both_are_named(registry: Registry) -> None:
    @registry.register("npu")
    class First:
        pass

    class Second:
        pass

    with pytest.raises(PluginError, match=r"'npu' is taken by .*First; .*Second needs another"):
        registry.register("npu")(Second)
    assert registry.load("npu") is First


def test_registering_the_same_class_again_is_allowed(registry: Registry) -> None:
    class Npu:
        pass

    assert registry.register("npu")(Npu) is Npu
    assert registry.register("npu")(Npu) is Npu


def test_two_objects_of_one_class_under_one_name_are_refused(registry: Registry) -> None:
    class Space:
        pass

    registry.register("mine")(Space())
    with pytest.raises(PluginError, match="'mine' is taken"):
        registry.register("mine")(Space())


def test_unknown_name_gets_the_nearest_one_the_list_and_the_other_forms(registry: Registry) -> None:
    for name in ("roofline", "bitops"):
        registry.register(name)(type(name, (), {}))
    with pytest.raises(PluginError) as caught:
        registry.load("roofine")
    message = str(caught.value)
    assert "did you mean 'roofline'?" in message
    assert "Known: bitops, roofline" in message
    assert "./my_cost_model.py[:Name]" in message
    assert "package.module:Name" in message


def test_unknown_name_with_nothing_near_makes_no_guess(registry: Registry) -> None:
    registry.register("roofline")(type("Roofline", (), {}))
    with pytest.raises(PluginError) as caught:
        registry.load("zzzz")
    assert "did you mean" not in str(caught.value)


def test_file_with_one_plugin_needs_no_name(tmp_path: Path) -> None:
    registry = shared_registry()
    plugin = registry.load(write(tmp_path, "npu.py", ONE))
    assert getattr(plugin, "unit", None) == "ms"


def test_file_is_run_once_and_gives_the_same_class(tmp_path: Path) -> None:
    spec = write(tmp_path, "npu.py", ONE.replace("one_file_npu", "loaded_twice"))
    registry = shared_registry()
    assert registry.load(spec) is registry.load(spec)


def test_file_that_registers_an_object_loads_twice(tmp_path: Path) -> None:
    text = (
        "from fractions import Fraction\nfrom hwnas.registry import search_spaces\n"
        "search_spaces.register('an_object')(Fraction(1, 3))\n"
    )
    from hwnas.registry import search_spaces

    spec = write(tmp_path, "space.py", text)
    assert search_spaces.load(spec) is search_spaces.load(spec)


def test_edited_file_replaces_what_it_registered(tmp_path: Path) -> None:
    text = ONE.replace("one_file_npu", "edited_in_a_notebook")
    registry = shared_registry()
    registry.load(write(tmp_path, "npu.py", text))
    plugin = registry.load(write(tmp_path, "npu.py", text.replace('"ms"', '"us"')))
    assert getattr(plugin, "unit", None) == "us"


def test_file_with_a_name_takes_that_attribute(tmp_path: Path) -> None:
    spec = write(tmp_path, "two.py", "class A:\n    pass\n\nclass B:\n    pass\n")
    plugin = shared_registry().load(f"{spec}:B")
    assert getattr(plugin, "__name__", None) == "B"


def test_file_without_that_attribute_says_so(tmp_path: Path) -> None:
    spec = write(tmp_path, "empty.py", "")
    with pytest.raises(PluginError, match=r"empty\.py defines no 'Npu'"):
        shared_registry().load(f"{spec}:Npu")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x = 1\n", "registers none"),
        (
            "from hwnas.registry import cost_models\n"
            "@cost_models.register('two_a')\nclass A: pass\n"
            "@cost_models.register('two_b')\nclass B: pass\n",
            "registers two_a, two_b",
        ),
    ],
)
def test_file_must_register_exactly_one(tmp_path: Path, text: str, found: str) -> None:
    spec = write(tmp_path, "many.py", text)
    with pytest.raises(PluginError, match=found) as caught:
        shared_registry().load(spec)
    assert f"{spec}:NAME" in str(caught.value)


def test_missing_file_is_named(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"cannot read the cost model file .*absent\.py: No such"):
        registry.load(str(tmp_path / "absent.py"))


def test_file_that_fails_shows_the_cause_and_may_be_corrected(tmp_path: Path) -> None:
    registry = shared_registry()
    spec = write(tmp_path, "broken.py", "import does_not_exist_anywhere\n")
    with pytest.raises(PluginError, match=r"broken\.py fails while loading: ModuleNotFoundError"):
        registry.load(spec)
    with pytest.raises(PluginError, match="SyntaxError"):
        registry.load(write(tmp_path, "broken.py", "class Npu(:\n"))
    text = ONE.replace("one_file_npu", "corrected")
    assert getattr(registry.load(write(tmp_path, "broken.py", text)), "unit", None) == "ms"


def test_module_path_needs_no_registration(registry: Registry) -> None:
    from collections import OrderedDict

    assert registry.load("collections:OrderedDict") is OrderedDict
    assert registry.load("collections:OrderedDict.fromkeys") == OrderedDict.fromkeys
    assert registry.names() == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such_package.npu:Npu", "fails while importing no_such_package.npu: ModuleNotFound"),
        ("collections:Npu", "collections has no 'Npu'"),
        ("collections:", "collections has no ''"),
        (":Npu", "ValueError"),
    ],
)
def test_module_path_errors_name_what_is_missing(
    registry: Registry, spec: str, message: str
) -> None:
    with pytest.raises(PluginError, match=message):
        registry.load(spec)


def shared_registry() -> Registry:
    """The registry that one-file plug-ins write to."""
    from hwnas.registry import cost_models

    return cost_models
