"""Single changes of a block: the shared first half changes no value."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hwnas.errors import ArchError
from hwnas.supernet.sensitivity import embeddings_of_changes, in_float
from hwnas.workload.sam_plan import EncoderPlan
from tests.supernet.elastic_models import TINY, calibrated, smooth_images


def uniform() -> EncoderPlan:
    return EncoderPlan.uniform(TINY, w_bits=8, a_bits=8, attn_bits=8)


def lowered(plan: EncoderPlan, place: int, **bits: object) -> EncoderPlan:
    blocks = list(plan.blocks)
    blocks[place] = replace(blocks[place], **bits)  # type: ignore[arg-type]
    return replace(plan, blocks=tuple(blocks))


def test_embeddings_equal_whole_passes_and_come_in_the_order_of_blocks() -> None:
    encoder, reference = calibrated().encoder, uniform()
    image = smooth_images()[1][None]
    changed = [
        lowered(reference, 3, attn_bits=4),
        lowered(reference, 0, w_bits=(2, 8, 8, 8)),
        reference,
        lowered(reference, 2, a_bits=(8, 8, 8, 3)),
    ]
    found = dict(embeddings_of_changes(encoder, image, reference, changed))
    assert list(found) == [2, 1, 3, 0]
    for place, plan in enumerate(changed):
        with torch.inference_mode():
            assert torch.equal(found[place], encoder(image, plan))


def test_the_map_may_be_halved_before_the_changed_block() -> None:
    encoder = calibrated().encoder
    reference = replace(uniform(), pool_stage=1)
    image = smooth_images()[1][None]
    changed = [lowered(reference, place, attn_bits=4) for place in (1, 2, 3)]
    for place, embedding in embeddings_of_changes(encoder, image, reference, changed):
        with torch.inference_mode():
            assert torch.equal(embedding, encoder(image, changed[place]))


def test_two_changes_at_once_are_refused() -> None:
    encoder, reference = calibrated().encoder, uniform()
    both = lowered(lowered(reference, 0, attn_bits=4), 2, attn_bits=4)
    with pytest.raises(ArchError, match=r"blocks \[0, 2\]"):
        list(embeddings_of_changes(encoder, smooth_images()[1][None], reference, [both]))
    smaller = replace(reference, resolution=64)
    with pytest.raises(ArchError, match="one block at a time"):
        list(embeddings_of_changes(encoder, smooth_images()[1][None], reference, [smaller]))


def test_in_float_is_the_float_network() -> None:
    assert in_float(uniform()) == EncoderPlan.uniform(TINY)
