"""The memory model against parameter counts, published sizes, and a real module."""

from __future__ import annotations

import pytest

from hwnas.adapters import Layout
from hwnas.supernet.memory import StaticMemory, encoder_elements, lora_elements, static_memory
from hwnas.supernet.sam_model import build_sam
from hwnas.workload.sam_geometry import GEOMETRIES
from tests.supernet.adapted_models import adapted

GB = 1e9


@pytest.mark.parametrize(
    ("name", "elements"),
    [("sam-vit-b", 89_670_912), ("sam-vit-l", 308_278_272), ("sam-vit-h", 637_026_048)],
)
def test_encoder_elements_of_the_published_sizes(name: str, elements: int) -> None:
    assert encoder_elements(GEOMETRIES[name]) == elements


@pytest.mark.parametrize("name", ["sam-vit-t", "sam-vit-s"])
def test_encoder_elements_of_a_real_encoder(name: str) -> None:
    encoder = build_sam(GEOMETRIES[name]).image_encoder
    assert encoder_elements(GEOMETRIES[name]) == sum(p.numel() for p in encoder.parameters())


@pytest.mark.parametrize(
    ("name", "full", "frozen", "states", "saving"),
    [
        ("sam-vit-b", 1.43, 0.36, 0.075, 0.70),
        ("sam-vit-l", 4.93, 1.23, 0.20, 0.71),
        ("sam-vit-h", 10.19, 2.55, 0.34, 0.72),
    ],
)
def test_adapters_of_four_paths_at_rank_8(
    name: str, full: float, frozen: float, states: float, saving: float
) -> None:
    geometry = GEOMETRIES[name]
    whole = static_memory(geometry, None)
    lora = static_memory(geometry, Layout("selective"), rank=8)
    assert whole.total_bytes / GB == pytest.approx(full, abs=0.006)
    assert lora.frozen_bytes / GB == pytest.approx(frozen, abs=0.006)
    assert lora.state_bytes / GB == pytest.approx(states, abs=0.006)
    assert 1 - lora.total_bytes / whole.total_bytes == pytest.approx(saving, abs=0.006)
    half = static_memory(geometry, Layout("selective"), frozen_width=2)
    assert half.frozen_bytes * 2 == lora.frozen_bytes


def test_one_path_of_each_size() -> None:
    counts = [lora_elements(GEOMETRIES[f"sam-vit-{size}"]) for size in "blh"]
    assert counts == [1_179_648, 3_145_728, 5_242_880]


def test_a_module_is_counted_as_it_stands() -> None:
    net = adapted("multiplex")
    found = StaticMemory.of_module(net.encoder)
    parameters = list(net.encoder.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    assert found.state_bytes == 16 * trained
    assert found.frozen_bytes == 4 * (sum(p.numel() for p in parameters) - trained)
    bank = net.encoder.adapters
    assert bank is not None
    assert sum(p.numel() for p in bank.parameters()) == 3 * lora_elements(net.geometry, 4)
