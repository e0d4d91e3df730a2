"""The compiled decoder gives the masks of the stock one, for a box and for a point."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.errors import DeviceError
from hwnas.export.run import preprocess
from hwnas.export.tvm.decoder import decoder_program
from hwnas.export.tvm.module import export_tvm
from hwnas.export.tvm.runner import ModuleError, TvmModule
from hwnas.export.tvm.segmenter import TvmSegmenter
from hwnas.measure.builder import Builder
from hwnas.supernet.decoder import decode
from hwnas.supernet.prompting import dense_prompts, embed_boxes, embed_points
from hwnas.supernet.sam_model import build_sam
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.workload.sam_plan import BlockPlan, EncoderPlan
from tests.supernet.elastic_models import TINY, random_sam

pytest.importorskip("tvm")
pytestmark = pytest.mark.tvm

WIDE = replace(TINY, name="wide", depth=2, global_blocks=(1,), neck_dim=256, drawn_boxes=True)
BOX, POINT = (9.0, 14.0, 40.5, 51.0), (30.0, 22.0)


@pytest.fixture(scope="module")
def segmented(builder: Builder, tmp_path_factory: pytest.TempPathFactory):
    """A module with a decoder, its model, and an embedding that both decode."""
    supernet = SamSupernet(random_sam(WIDE))
    for part in supernet.sam.mask_decoder.transformer.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.eps = 1e-6  # the kernel's; of random weights the difference is large
    blocks = (BlockPlan(0, 1, 48, (32,) * 4, (32,) * 4, 32),)
    subnet = supernet.subnet(EncoderPlan(WIDE, 64, blocks, edge_bits=32))
    folder = tmp_path_factory.mktemp("segmented") / "tvm"
    export_tvm(folder, subnet, builder, sam=supernet.sam, decoder_bits=32)
    image = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(1))
    embedding = subnet(image[None])
    module = TvmModule(folder)
    found = module.encode(image.numpy())
    expected = embedding[0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    return module, supernet.sam, embedding


def check(found, expected: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """All four masks and their predicted IoU, the single one first."""
    masks, iou = (torch.cat([part[i][0, 0] for part in expected]).numpy() for i in (0, 1))
    assert found[0].shape == masks.shape == (4, 16, 16)
    assert np.abs(found[0] - masks).max() < 1e-5 * np.abs(masks).max()
    assert np.abs(found[1] - iou).max() < 1e-5 * np.abs(iou).max()
    assert len({mask.tobytes() for mask in found[0]}) == 4


@pytest.mark.slow
@torch.no_grad()
def test_a_box(segmented) -> None:
    module, sam, embedding = segmented
    box = torch.tensor([BOX])
    sparse, dense = embed_boxes(sam, box, 64)[None], dense_prompts(sam, box, 4)[None]
    both = [decode(sam, embedding, sparse, dense=dense, multimask=m) for m in (False, True)]
    found = module.segment(embedding[0].permute(1, 2, 0).numpy(), box=BOX)
    check(found, both)
    corners, labels = np.float32(BOX).reshape(1, 2, 2), np.array([[2, 3]])
    logits, iou = module.logits(embedding.numpy(), corners, labels)
    assert np.array_equal(logits, found[0][:1])
    assert np.array_equal(iou, found[1][:1])
    with pytest.raises(ModuleError, match=r"the labels \(1, 1\): a module takes one box"):
        module.logits(embedding.numpy(), corners, np.array([[1, 1]]))


@pytest.mark.slow
@pytest.mark.parametrize("foreground", [True, False])
@torch.no_grad()
def test_a_point(segmented, foreground: bool) -> None:
    module, sam, embedding = segmented
    points, labels = torch.tensor([[POINT]]), torch.full((1, 1), float(foreground))
    sparse = embed_points(sam, points, labels, 64)[None]
    both = [decode(sam, embedding, sparse, multimask=m) for m in (False, True)]
    flat = embedding[0].permute(1, 2, 0).numpy()
    check(module.segment(flat, point=POINT, foreground=foreground), both)


@pytest.mark.slow
def test_it_stands_in_for_the_onnx_files(segmented) -> None:
    module, _, _ = segmented
    segmenter = TvmSegmenter(module.folder, threads=1)
    image = np.random.default_rng(2).integers(0, 256, (40, 60, 3), np.uint8)
    embedding = segmenter.embed(image)
    assert embedding.shape == (1, 256, 4, 4)
    masks, iou = segmenter.masks(embedding, (40, 60), boxes=[(5, 5, 30, 25)], points=[(20, 9)])
    assert masks.shape == (2, 40, 60)
    box, point = (
        module.segment(module.encode(preprocess(image, 64)[0]), **prompt)
        for prompt in ({"box": np.array([5, 5, 30, 25]) * 64 / 60},
                       {"point": (np.array([20, 9]) + 0.5) * 64 / 60 - 0.5})
    )  # fmt: skip
    assert np.allclose(iou, [box[1][0], point[1][0]], atol=1e-5)


@pytest.mark.slow
def test_boxes_that_are_not_drawn(builder: Builder, tmp_path: Path) -> None:
    sam = build_sam(replace(WIDE, drawn_boxes=False))
    program = decoder_program(sam, 4, builder, box=True, bits=32).program
    assert set(program.inputs) == {"points", "tokens", "embedding"}


def test_a_decoder_that_no_module_has_is_refused(builder: Builder) -> None:
    sam = build_sam(WIDE)
    with pytest.raises(DeviceError, match="4 mask tokens at 8 bits"):
        decoder_program(sam, 4, builder, box=True, bits=8)
    sam.mask_decoder.num_mask_tokens = 3
    with pytest.raises(DeviceError, match="3 mask tokens at 16 bits"):
        decoder_program(sam, 4, builder, box=False)
