"""The layer lists against PyTorch's flop counter on the stock `segment_anything` modules."""

from functools import partial

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hwnas.supernet.torchvision_shim import ensure_torchvision
from hwnas.workload import GEOMETRIES
from hwnas.workload.sam import EncoderPlan, encoder_layers
from hwnas.workload.sam_decoder import (
    mask_decoder_layers,
    mask_prompt_layers,
    prompt_encoder_layers,
)

ensure_torchvision()


def counted_macs(run):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return flops // 2


def stock_encoder(geometry, resolution):
    from segment_anything.modeling import ImageEncoderViT

    with torch.device("meta"):
        return ImageEncoderViT(
            img_size=resolution,
            patch_size=geometry.patch,
            embed_dim=geometry.dim,
            depth=geometry.depth,
            num_heads=geometry.heads,
            mlp_ratio=geometry.mlp_ratio,
            out_chans=geometry.neck_dim,
            qkv_bias=True,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=geometry.window,
            global_attn_indexes=geometry.global_blocks,
        )


@pytest.mark.parametrize(
    ("name", "resolution"),
    [
        *(("sam-vit-b", r) for r in (1024, 896, 768, 672, 448)),
        ("sam-vit-l", 1024),
        ("sam-vit-h", 672),
        ("sam-vit-s", 512),
        ("sam-vit-t", 512),
    ],
)
def test_encoder(name, resolution):
    geometry = GEOMETRIES[name]
    encoder = stock_encoder(geometry, resolution)
    image = torch.empty(1, 3, resolution, resolution, device="meta")
    layers = encoder_layers(EncoderPlan.uniform(geometry, resolution=resolution))
    assert counted_macs(lambda: encoder(image)) == sum(layer.macs for layer in layers)


@pytest.mark.parametrize(("grid", "tokens"), [(64, 2), (28, 3)])
def test_decoder(grid, tokens):
    from segment_anything.modeling import MaskDecoder, TwoWayTransformer

    with torch.device("meta"):
        transformer = TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
        decoder = MaskDecoder(transformer_dim=256, transformer=transformer)
        image = torch.empty(1, 256, grid, grid)
        prompts = torch.empty(1, tokens, 256)
    layers = mask_decoder_layers(grid, tokens=tokens)
    macs = counted_macs(lambda: decoder(image, image, prompts, image, multimask_output=False))
    assert macs == sum(layer.macs for layer in layers)


def test_prompt_encoder_products_are_element_operations():
    from segment_anything.modeling import PromptEncoder

    encoder = PromptEncoder(256, (64, 64), (1024, 1024), mask_in_chans=16).requires_grad_(False)
    box = torch.tensor([[10.0, 20.0, 300.0, 400.0]])
    (layer,) = prompt_encoder_layers(tokens=2)
    macs = counted_macs(lambda: encoder(points=None, boxes=box, masks=None))
    assert layer.element_ops == macs + layer.out_elems


@pytest.mark.parametrize("grid", [32, 28])
def test_mask_prompt(grid):
    from segment_anything.modeling import PromptEncoder

    encoder = PromptEncoder(256, (grid, grid), (16 * grid, 16 * grid), mask_in_chans=16)
    encoder.requires_grad_(False)
    drawn = torch.zeros(1, 1, 4 * grid, 4 * grid)
    macs = counted_macs(lambda: encoder(points=None, boxes=None, masks=drawn))
    layers = mask_prompt_layers(grid)
    assert macs == sum(layer.macs for layer in layers)
    weights = sum(p.numel() for p in encoder.mask_downscaling.parameters())
    assert weights == sum(layer.weight_elems + layer.bias_elems for layer in layers)
