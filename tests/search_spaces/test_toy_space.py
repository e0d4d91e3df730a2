"""The toy space."""

import numpy as np

from hwnas.cost.lowering import lower
from search_spaces.toy import toy


def test_it_can_be_enumerated():
    space = toy()
    ids = {arch_id for chunk in space.enumerate() for arch_id in chunk.ids}
    assert space.size() == len(ids) == 3276


def test_its_layers_by_hand():
    space = toy()
    for arch in space.sample(np.random.default_rng(0), 20):
        tokens = (arch["resolution"] // 8) ** 2
        widths = [arch[f"blocks.{block}.width"] for block in range(arch["depth"])]
        assert lower(space, arch).macs == sum(2 * tokens * 64 * width for width in widths)
