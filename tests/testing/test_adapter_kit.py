"""The kit passes correct adapters and catches one that breaks each promise."""

from __future__ import annotations

import re

import pytest
import torch

from hwnas.errors import PluginError
from hwnas.registry import adapters
from hwnas.testing.adapters import check_adapter
from tests.adapters.example_adapters import Breaking, RowGain, TokenBranch


@pytest.mark.parametrize("name", adapters.names())
def test_every_installed_adapter_keeps_all_promises(name: str) -> None:
    assert check_adapter(name) == []


def test_a_transform_keeps_all_promises() -> None:
    assert check_adapter(RowGain) == []


def test_a_branch_keeps_all_promises() -> None:
    assert check_adapter(TokenBranch) == []


def test_a_plain_matrix_keeps_all_promises() -> None:
    assert check_adapter(Breaking) == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("role", "description: role is 'sideways', expected additive, transform or branch"),
        ("start", "fresh changes nothing: a fresh adapter"),
        ("shape", "shapes: "),
        ("slice", "slices: the delta of"),
        ("random", "a given generator decides: "),
        ("unused", "gradients: no gradient reaches unused"),
        ("groups", "gradients: trainable_groups does not list"),
        ("counts", "leaves weights alone: asking for its result changes its state"),
        ("product", "product: the product of"),
        ("fold", "fold: the fold of"),
        ("refusal", "fold: it is additive and refuses to fold"),
        ("fit", "fit: fit changes the weight"),
        ("gradient", "fit: fit changes the gradient"),
    ],
)
def test_each_breach_is_found(fault: str, message: str) -> None:
    assert any(found.startswith(message) for found in check_adapter(Breaking, fault=fault))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("start", "fresh changes nothing: a fresh adapter of"),
        ("images", "shapes: raises ValueError"),
        ("shape", "shapes: "),
        ("unused", "gradients: no gradient reaches unused"),
        ("loss", "gradients: auxiliary_loss gives"),
        ("graph", "state dict: raises RuntimeError"),
        ("fold", "fold: the fold of .* gives other outputs than the branch"),
        ("residual", "fold: a fold would lose 7.0; expected 0 to 1"),
        ("input", "leaves weights alone: branch changes the input"),
        ("noise", "leaves weights alone: asked twice"),
    ],
)
def test_each_breach_of_a_branch_is_found(fault: str, message: str) -> None:
    assert any(re.match(message, found) for found in check_adapter(TokenBranch, fault=fault))


def test_fit_takes_a_gradient_as_well() -> None:
    class Old(RowGain):
        def fit(self, weight: torch.Tensor) -> None:  # type: ignore[override]
            del weight

    assert check_adapter(Old)[0].startswith("description: raises TypeError")


def test_an_unknown_adapter_is_an_error() -> None:
    with pytest.raises(PluginError, match="no adapter is called 'lara'; did you mean 'lora'"):
        check_adapter("lara")
