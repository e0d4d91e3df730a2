"""Block losses as a cost model, and exact search by them."""

import itertools

import numpy as np
import pytest

from cost_models.bitops import Bitops
from cost_models.block_loss import BlockLoss
from hwnas.blocks import slot_gene
from hwnas.blocks.library import read_library
from hwnas.cost import CostContext
from hwnas.errors import CostError
from hwnas.search import Limit, Objective, Problem, run_nsga2
from hwnas.search.exact import run_exact
from hwnas.testing import check_cost_model
from search_spaces.sam import sam_vit_t
from search_spaces.sam_blocks import sam_vit_t_blocks
from tests.blocks.made_libraries import library

OPTIONS = ("conv-d1-r2-w4a4", "conv-d2-r3-w8a8", "window-d2-r4-w8a8", "vit-d3-r4-fp16")


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A library of four blocks in each of four slots; wider blocks lose less."""
    rng = np.random.default_rng(0)
    losses = {
        (slot, block): float((len(OPTIONS) - place) * rng.uniform(0.5, 1.5) / (slot + 1))
        for slot in range(4)
        for place, block in enumerate(OPTIONS)
    }
    made = library(losses, slots=4, networks={}, identity="made")
    return str(made.pack(tmp_path_factory.mktemp("blocks") / "library.json"))


@pytest.fixture(scope="module")
def context():
    """The space with what the library holds."""
    return CostContext(sam_vit_t_blocks().restrict({"slots.*.block": OPTIONS}))


@pytest.mark.parametrize("score", ["sum", "sum_log", "sum_norm", "fisher"])
def test_it_keeps_its_promises(context, packed, score):
    model = BlockLoss(context, library=packed, score=score)
    assert check_cost_model(model, context, n=6) == []


def test_the_sum_and_its_error_by_hand(context, packed):
    model, blocks = BlockLoss(context, library=packed), read_library(packed).blocks
    arch = context.space.sample(np.random.default_rng(0), 1)[0]
    records = [blocks[slot, arch[slot_gene(slot)]] for slot in range(4)]
    found = model.estimate([arch])
    assert found.value[0] == pytest.approx(sum(r.nsr for r in records))
    by_image = np.sum([r.nsr_of_images for r in records], axis=0)
    error = by_image.std(ddof=1) / np.sqrt(len(by_image))
    assert found.hi[0] - found.value[0] == pytest.approx(error)
    assert model.breakdown(arch) == {f"slots.{s}": r.nsr for s, r in enumerate(records)}


def test_the_exact_optimum_is_that_of_enumeration(context, packed):
    """And NSGA-II comes within 1 % of it."""
    loss, bitops = BlockLoss(context, library=packed), Bitops(context)
    every = [
        context.space.arch({slot_gene(s): b for s, b in enumerate(blocks)})
        for blocks in itertools.product(OPTIONS, repeat=4)
    ]
    losses, costs = loss.evaluate(every), bitops.evaluate(every)
    for budget in np.quantile(costs, (0.2, 0.5, 0.8)):
        limit = Limit.parse(f"bitops<={budget}")
        best = losses[costs <= budget].min()
        problem = Problem(context.space, (Objective.of(loss),), (limit,), (Objective.of(bitops),))
        exact = loss.evaluate(run_exact(problem).archs)
        assert exact.min() == pytest.approx(best, rel=1e-9)
        both = Problem(context.space, (Objective.of(loss), Objective.of(bitops)), (limit,))
        front = run_nsga2(both, max_evaluations=256, seed=0).front
        assert loss.evaluate(front.archs).min() <= 1.01 * best


def test_a_block_that_the_library_lacks_is_named(packed):
    whole = CostContext(sam_vit_t_blocks())
    model = BlockLoss(whole, library=packed)
    with pytest.raises(CostError, match="has block vit-d1-r4-w8a8 in slot 2"):
        model.evaluate([
            whole.space.arch({slot_gene(s): OPTIONS[0] for s in range(4)}
                             | {slot_gene(2): "vit-d1-r4-w8a8"})
        ])  # fmt: skip


def test_what_does_not_fit_is_refused(context, packed, tmp_path):
    with pytest.raises(CostError, match="no slots of blocks"):
        BlockLoss(CostContext(sam_vit_t()))
    with pytest.raises(CostError, match="expected one of sum"):
        BlockLoss(context, library=packed, score="product")
    other = library({(0, OPTIONS[0]): 1.0}, slots=4, networks={}, resolution=512)
    with pytest.raises(CostError, match="resolution: the library has 512, the space 256"):
        BlockLoss(context, library=str(other.pack(tmp_path / "other.json")))


def test_the_library_that_ships_covers_its_space():
    space = sam_vit_t_blocks()
    model = BlockLoss(CostContext(space))
    values = model.evaluate(space.sample(np.random.default_rng(0), 200))
    assert (values >= 0).all()
    assert model.evaluate([space.largest()])[0] < 1e-6
