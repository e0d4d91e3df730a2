"""Adapters written down as plain LoRA."""

from __future__ import annotations

import pytest
import torch

from hwnas.adapters import SAM_QKV, as_lora, attach
from hwnas.errors import ConfigError
from hwnas.supernet.sam_model import encode
from tests.adapters.tiny_sam import shake, some_images, tiny_sam


def test_a_lora_gives_its_own_rank_and_itself() -> None:
    attached, images = attach(tiny_sam(), "lora", rank=3, alpha=5.0), some_images()
    shake(attached)
    with torch.no_grad():
        own = encode(attached.model, images)
        errors = as_lora(attached, "default", into="plain", rank=3)
        found = encode(attached.model, images)
    assert attached.active == ("plain",)
    assert max(errors.values()) < 1e-5
    torch.testing.assert_close(found, own, rtol=1e-4, atol=1e-4)


def test_without_a_rank_it_takes_the_one_that_is_exact() -> None:
    attached = attach(tiny_sam(), "dora", rank=2, targets=SAM_QKV)
    shake(attached)
    layer = attached.layers["image_encoder.blocks.0.attn.qkv"]
    with torch.no_grad():
        own = layer.effective_weight()
        as_lora(attached, "default", into="plain")
        torch.testing.assert_close(layer.effective_weight(), own, rtol=1e-4, atol=1e-5)
        errors = as_lora(attached, "default", into="small", rank=4)
        delta = own - layer.weight
        lost = (layer.effective_weight() - own).norm() / delta.norm()
    assert errors["image_encoder.blocks.0.attn.qkv"] == pytest.approx(float(lost), rel=1e-3)
    assert float(lost) > 0.1


def test_names_must_be_an_old_and_a_new_one() -> None:
    attached = attach(tiny_sam(), "lora", rank=2)
    for name, into in (("other", "new"), ("default", "default")):
        with pytest.raises(ConfigError, match="attached and a new name"):
            as_lora(attached, name, into=into)
