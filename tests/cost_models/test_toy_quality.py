"""The closed form of the toy quality, and the shape of its front."""

import math

import numpy as np
import pytest

from cost_models.bitops import Bitops
from cost_models.toy_quality import ToyQuality
from hwnas.cost import CostContext
from hwnas.errors import CostError
from hwnas.space import Archs
from search_spaces.mobile_cnn import mobile_cnn
from search_spaces.toy import toy


@pytest.fixture(scope="module")
def space():
    return toy()


@pytest.fixture(scope="module")
def everything(space):
    return Archs(space, np.concatenate([chunk.matrix for chunk in space.enumerate()]))


def score(arch):
    gains, strength, jumps = (0.50, 0.35, 0.25), 0.0, 0.0
    depth, resolution = arch["depth"], arch["resolution"]
    for block in range(depth):
        width, bits = arch[f"blocks.{block}.width"], arch[f"blocks.{block}.bits"]
        strength += gains[block] * math.sqrt(width / 128) * (1 - 2 ** -(bits - 1))
        if block:
            jumps += abs(math.log2(bits) - math.log2(arch[f"blocks.{block - 1}.bits"]))
    value = (1 - math.exp(-2 * strength)) * (resolution / 192) ** 0.3 - 0.02 * jumps
    return value - (0.03 if depth < 3 and resolution > 128 else 0.0)


def test_every_score_is_the_closed_form(space, everything):
    scores = ToyQuality(CostContext(space)).evaluate(everything)
    assert scores == pytest.approx([score(arch) for arch in everything], abs=1e-12)
    assert scores.min() > 0
    assert scores.max() < 1


def test_the_front_has_steps_and_dents(space, everything):
    context = CostContext(space)
    cost, quality = (m(context).evaluate(everything) for m in (Bitops, ToyQuality))
    front = []
    for i in np.lexsort((-quality, cost)):
        if not front or quality[i] > quality[front[-1]]:
            front.append(int(i))
    assert len(front) >= 15
    # a convex front would have its quality gains per BitOP fall all along
    slopes = np.diff(quality[front]) / np.diff(cost[front])
    assert np.sum(np.diff(slopes) > 0) >= 5


def test_another_space_is_refused():
    with pytest.raises(CostError, match="is for the space toy; mobile-cnn has no depth"):
        ToyQuality(CostContext(mobile_cnn()))
