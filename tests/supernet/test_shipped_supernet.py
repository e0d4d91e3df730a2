"""The supernet that ships: it belongs to its base, its space agrees, and 8 bits cost little."""

from __future__ import annotations

import pytest
import torch

from hwnas.data.embedded import EXCLUDED_FROM_TRAINING, embedded_image
from hwnas.data.transforms import preprocess
from hwnas.supernet.distortion import ChannelNoise
from hwnas.supernet.sam_supernet import SamSupernet, build, supernet_path
from hwnas.supernet.supernet_file import read_supernet_file
from hwnas.workload.sam_plan import EncoderPlan
from search_spaces.sam import sam_vit_t


@pytest.fixture(scope="module")
def supernet() -> SamSupernet:
    return build("sam-vit-t")


def test_eight_bits_keep_the_embedding(supernet: SamSupernet) -> None:
    image = preprocess(embedded_image().image, 512)[None]
    noise = ChannelNoise([supernet.teacher(image)[0]])
    ratios = {}
    for bits in (2, 4, 8):
        plan = EncoderPlan.uniform(supernet.geometry, w_bits=bits, a_bits=bits, attn_bits=8)
        ratios[bits] = noise.ratio(0, supernet.embed(image, plan)[0])
    assert ratios[8] < 0.02
    assert ratios[8] < ratios[4] < ratios[2]


def test_smallest_and_largest_arch_of_the_space_run(supernet: SamSupernet) -> None:
    space = sam_vit_t()
    for arch in (space.smallest(), space.largest()):
        side = supernet.resolution(arch)
        embedding = supernet.embed(torch.zeros(1, 3, side, side), arch)
        assert embedding.shape == (1, 256, side // 16, side // 16)
        assert torch.isfinite(embedding).all()


def test_space_drops_the_least_important_blocks_first(supernet: SamSupernet) -> None:
    space = sam_vit_t()
    largest = dict(space.largest().genes)
    for stage, order in enumerate(supernet.drop_order):
        for keep in (1, 2):
            kept = space.arch({**largest, f"keep.{stage}": keep})
            blocks = [i for i in order if f"blocks.{i}.heads" in kept.genes]
            assert blocks == list(order[len(order) - keep :])


def test_calibration_saw_neither_the_picture_nor_another_split() -> None:
    file = read_supernet_file(supernet_path("sam-vit-t"))
    assert file.notes["split"] == "train"
    assert len(file.notes["images"]) >= 32
    assert not set(file.notes["images"]) & set(EXCLUDED_FROM_TRAINING)
    assert set(file.notes["bits"]) >= {2, 3, 4, 8}
