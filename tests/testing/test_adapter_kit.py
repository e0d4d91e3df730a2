"""The kit passes correct adapters and catches one that breaks each promise."""

from __future__ import annotations

import pytest

from hwnas.errors import PluginError
from hwnas.registry import adapters
from hwnas.testing.adapters import check_adapter
from tests.adapters.example_adapters import Breaking, RowGain


@pytest.mark.parametrize("name", adapters.names())
def test_every_installed_adapter_keeps_all_promises(name: str) -> None:
    assert check_adapter(name) == []


def test_a_transform_keeps_all_promises() -> None:
    assert check_adapter(RowGain) == []


def test_a_plain_matrix_keeps_all_promises() -> None:
    assert check_adapter(Breaking) == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("role", "description: role is 'branch', expected additive or transform"),
        ("start", "fresh changes nothing: a fresh adapter"),
        ("shape", "shapes: "),
        ("slice", "slices: the delta of"),
        ("random", "a given generator decides: "),
        ("unused", "gradients: no gradient reaches unused"),
        ("groups", "gradients: trainable_groups does not list"),
        ("counts", "leaves weights alone: asking for its result changes its state"),
    ],
)
def test_each_breach_is_found(fault: str, message: str) -> None:
    assert any(found.startswith(message) for found in check_adapter(Breaking, fault=fault))


def test_an_unknown_adapter_is_an_error() -> None:
    with pytest.raises(PluginError, match="no adapter is called 'lara'; did you mean 'lora'"):
        check_adapter("lara")
