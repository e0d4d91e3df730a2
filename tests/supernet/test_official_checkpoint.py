"""A file with the keys and shapes of the official SAM ViT-B checkpoint, saved as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hwnas.supernet.checkpoint import load_sam
from hwnas.supernet.torchvision_shim import ensure_torchvision
from hwnas.workload.sam_geometry import GEOMETRIES


@pytest.mark.slow
def test_a_whole_checkpoint_of_the_official_builder_loads(tmp_path: Path) -> None:
    ensure_torchvision()
    from segment_anything import sam_model_registry

    stock = sam_model_registry["vit_b"]()
    path = tmp_path / "my_vit_b.pth"
    torch.save(stock.state_dict(), path)
    sam = load_sam(path)
    assert sam.geometry == GEOMETRIES["sam-vit-b"]
    for name, value in stock.state_dict().items():
        assert torch.equal(sam.state_dict()[name], value), name
