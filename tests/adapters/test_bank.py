"""All adapters of a supernet: building, merging, inheriting, saving."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hwnas.adapters import AdapterBank, Layout, MatrixSlice, block_linears, build_adapters
from hwnas.errors import CheckpointError, ConfigError, PluginError
from hwnas.registry import adapters as registry
from hwnas.workload.sam_geometry import GEOMETRIES
from tests.adapters.example_adapters import RowGain

LAYERS = {"blocks.0.qkv": MatrixSlice(6, 6, 3), "blocks.0.lin1": MatrixSlice(10, 6)}
WHOLE = LAYERS["blocks.0.lin1"]
ONE_FILE = """
import torch
from torch import nn
from hwnas.adapters import WeightAdapter
from hwnas.registry import adapters

@adapters.register("row_bias")
class RowBias(WeightAdapter):
    def __init__(self, whole, *, rng, start=0.0):
        super().__init__(whole)
        self.column = nn.Parameter(torch.full((whole.shape[0],), start))

    def delta(self, part):
        return part.rows(self.column)[:, None].expand(part.shape)
"""


def _bank(seed: int = 0, **options: Any) -> AdapterBank:
    rng = torch.Generator().manual_seed(seed)
    return build_adapters(LAYERS, rng=rng, **{"rank": 2, **options})


def _moved(bank: AdapterBank) -> AdapterBank:
    rng = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in bank.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=rng))
    return bank


@pytest.fixture
def one_file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "row_bias.py"
    path.write_text(ONE_FILE)
    yield path
    registry._registered.pop("row_bias", None)


def test_layers_are_the_linears_of_all_blocks() -> None:
    g = GEOMETRIES["sam-vit-b"]
    layers = block_linears(g)
    assert len(layers) == 4 * g.depth
    assert layers["blocks.11.qkv"].shape == (3 * 768, 768)
    # One path costs 16 r d a block: spec of the layouts, SAM-B at rank 8.
    bank = build_adapters(
        {n: m for n, m in layers.items() if n.startswith("blocks.0.")},
        rng=torch.Generator(), layout="shared",
    )  # fmt: skip
    assert sum(p.numel() for p in bank.parameters()) == 98_304


def test_targets_choose_layers_by_their_whole_name() -> None:
    assert list(_bank(targets=r"blocks\.\d+\.qkv").layers) == ["blocks.0.qkv"]
    with pytest.raises(ConfigError, match=r"'qkv' matches no layer.*blocks\.0\.qkv"):
        _bank(targets="qkv")
    with pytest.raises(ConfigError, match="no regular expression"):
        _bank(targets="(")


def test_paths_add_up() -> None:
    bank = _moved(_bank())
    base, low = (bank.adapter("blocks.0.lin1", path).delta(WHOLE) for path in ("base", "b2"))
    assert torch.equal(bank.delta("blocks.0.lin1", 8, 8, WHOLE), base)
    assert torch.equal(bank.delta("blocks.0.lin1", 2, 8, WHOLE), base + low)
    weight = torch.randn(WHOLE.shape)
    assert torch.equal(bank.merge("blocks.0.lin1", weight, 2, 8, WHOLE), weight + (base + low))


def test_a_layer_without_adapters_is_left_as_it_is() -> None:
    bank, weight = _bank(), torch.randn(4, 4)
    assert bank.paths("neck.0", 8, 8) == ()
    assert bank.merge("neck.0", weight, 8, 8, MatrixSlice(4, 4)) is weight


def test_transforms_come_after_everything_additive() -> None:
    rng = torch.Generator().manual_seed(0)
    registry.register("row_gain")(RowGain)
    bank = _moved(AdapterBank(LAYERS, Layout("multiplex"), rng=rng, kind="row_gain"))
    weight = torch.randn(WHOLE.shape)
    gains = [bank.adapter("blocks.0.lin1", path).gain[:, None] for path in ("base", "b2")]
    torch.testing.assert_close(
        bank.merge("blocks.0.lin1", weight, 2, 8, WHOLE), weight * gains[0] * gains[1]
    )
    assert bank.delta("blocks.0.lin1", 2, 8, WHOLE) is None
    mixed = {"additive": 0, "transform": 1}
    assert [mixed[a.role] for a in bank.active("blocks.0.lin1", 2, 8)] == [1, 1]


@pytest.mark.parametrize(
    ("layout", "to", "source", "possible"),
    [("selective", 4, 8, True), ("multiplex", 2, 3, True), ("multiplex", 3, 4, False),
     ("shared", 4, 8, False)],
)  # fmt: skip
def test_bit_inheritance(layout: str, to: int, source: int, possible: bool) -> None:
    bank = _moved(_bank(layout=layout))
    before = bank.tensors()
    assert bank.inherit(to, source) == possible
    after = bank.tensors()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == ({n for n in before if f".b{to}." in n} if possible else set())
    if possible:
        twins = (bank.adapter("blocks.0.qkv", f"b{b}").delta(LAYERS["blocks.0.qkv"])
                 for b in (to, source))  # fmt: skip
        assert torch.equal(*twins)


def test_every_trainable_parameter_is_in_one_group() -> None:
    bank = _bank()
    (group,) = bank.trainable_groups().values()
    assert dict(group).keys() == dict(bank.named_parameters()).keys()


def test_a_bank_survives_json_and_tensors() -> None:
    bank = _moved(_bank(n_low=2, alpha=4.0, split_qkv=True))
    config = json.loads(json.dumps(bank.config()))
    other = AdapterBank.of(config).load_tensors(bank.tensors(), source="here")
    for layer, whole in LAYERS.items():
        assert torch.equal(other.delta(layer, 2, 8, whole), bank.delta(layer, 2, 8, whole))
    assert other.config() == bank.config()


def test_wrong_tensors_are_all_named() -> None:
    bank, tensors = _bank(), _bank().tensors()
    tensors["blocks.0.qkv.base.A"] = torch.zeros(1)
    del tensors["blocks.0.qkv.base.B"]
    tensors["blocks.9.qkv.base.B"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"net\.st: its lora adapters have 3 wrong") as caught:
        bank.load_tensors(tensors, source="net.st")
    assert all(
        n in str(caught.value) for n in ("base.A: shape (1,)", "base.B: missing", "blocks.9")
    )


def test_unknown_options_and_kinds_are_named() -> None:
    with pytest.raises(PluginError, match=r"adapter lora cannot be made with .*'rang'"):
        _bank(rang=3)
    with pytest.raises(PluginError, match="no adapter is called 'lira'; did you mean 'lora'"):
        _bank(kind="lira")
    with pytest.raises(ConfigError, match="set them in the Layout"):
        _bank(layout=Layout(), n_low=2)
    with pytest.raises(ConfigError, match="description is damaged"):
        AdapterBank.of({"kind": "lora"})


def test_an_adapter_in_one_file_is_remembered_by_its_registered_name(one_file: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    bank = build_adapters(LAYERS, rng=rng, kind=str(one_file), layout="shared", start=2.0)
    assert bank.config()["kind"] == "row_bias"
    assert AdapterBank.of(bank.config()).delta("blocks.0.lin1", 4, 4, WHOLE).eq(2).all()


def test_a_description_never_runs_code(one_file: Path) -> None:
    config = {**_bank().config(), "kind": str(one_file)}
    with pytest.raises(PluginError, match=r"not installed here \(known: .*lora.*load"):
        AdapterBank.of(config)
    assert "row_bias" not in registry.names()


def test_an_adapter_needs_a_name() -> None:
    with pytest.raises(PluginError, match="no registered name"):
        _bank(kind="tests.adapters.example_adapters:Breaking")
