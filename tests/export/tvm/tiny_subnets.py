"""Subnets of a tiny SAM with random weights, and what they see."""

from __future__ import annotations

import torch

from hwnas.supernet.subnet import Subnet
from hwnas.workload.sam_plan import EncoderPlan
from tests.supernet.elastic_models import TINY, calibrated, mixed_plan, smooth_images

# One window block whose map is padded, one global one; 8 bits everywhere.
EIGHT = EncoderPlan(
    TINY, 64, EncoderPlan.uniform(TINY, w_bits=8, a_bits=8, attn_bits=8).blocks[2:]
)  # fmt: skip
# Dropped blocks, fewer heads, narrower MLPs, fewer channels, 2 to 8 bits, floats, a halved map.
MIXED = mixed_plan(resolution=64, pool_stage=1, dim=40)


def tiny(plan: EncoderPlan) -> tuple[Subnet, torch.Tensor]:
    """A subnet and an image (3, R, R) that it takes."""
    images = {image.shape[-1]: image for image in smooth_images()}
    return calibrated().subnet(plan), images[plan.resolution]
