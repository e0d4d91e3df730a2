"""Which paths are active at which bits."""

from __future__ import annotations

from typing import Any

import pytest

from hwnas.adapters import Layout
from hwnas.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shared", {2: ("base",), 3: ("base",), 4: ("base",), 8: ("base",), 32: ("base",)}),
        ("selective", {2: ("b2",), 3: ("b3",), 4: ("b4",), 8: ("b8",), 32: ("b8",)}),
        (
            "multiplex",
            {2: ("base", "b2"), 3: ("base", "b3"), 4: ("base",), 8: ("base",), 32: ("base",)},
        ),
    ],
)
def test_active_paths(name: Any, expected: dict[int, tuple[str, ...]]) -> None:
    layout = Layout(name)
    assert {bits: layout.paths(bits, 8) for bits in expected} == expected
    assert set(layout.every_path) == {path for paths in expected.values() for path in paths}


def test_n_low_moves_the_border() -> None:
    layout = Layout("multiplex", n_low=4)
    assert layout.paths(4, 8) == ("base", "b4")
    assert layout.every_path == ("base", "b2", "b3", "b4")


def test_the_path_key_may_be_the_lower_of_both_bits() -> None:
    layout = Layout("selective", path_key="min")
    assert layout.paths(8, 2) == layout.paths(2, 8) == ("b2",)
    assert Layout("selective").paths(8, 2) == ("b8",)
    assert layout.paths(32, 32) == ("b8",)


def test_gradients_stop_at_the_base_of_low_bits_only() -> None:
    layout = Layout("multiplex", detach_base_low=True)
    assert [layout.detaches("base", b, 8) for b in (2, 3, 4, 8, 32)] == [True] * 2 + [False] * 3
    assert not layout.detaches("b2", 2, 8)
    assert not Layout("multiplex").detaches("base", 2, 8)


def test_a_bit_width_without_a_path_is_named() -> None:
    with pytest.raises(ConfigError, match="no path for 6 bits; they were made for 2, 3, 4, 8"):
        Layout("selective").paths(6, 8)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"'mixed'.*'median'.*\(5,\)") as caught:
        Layout("mixed", (5,), path_key="median")  # type: ignore[arg-type]
    assert "detach" not in str(caught.value)
    with pytest.raises(ConfigError, match="detach_base_low belongs to multiplex"):
        Layout("shared", detach_base_low=True)


def test_json_both_ways() -> None:
    layout = Layout("multiplex", (2, 8), n_low=2, path_key="min", detach_base_low=True)
    assert Layout.of(layout.to_dict()) == layout
