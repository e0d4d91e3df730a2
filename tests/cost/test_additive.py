"""Tables of options: groups, shared variables, and sums that equal the models."""

from __future__ import annotations

import numpy as np
import pytest

from cost_models.bitops import Bitops
from cost_models.macs import Macs
from hwnas.cost import CostContext
from hwnas.cost.additive import Additive, AdditiveTables, terms_of
from hwnas.errors import CostError, SpaceError
from hwnas.space import SearchSpace
from search_spaces.mobile_cnn import mobile_cnn
from search_spaces.sam import sam_vit_t
from search_spaces.toy import toy
from tests.search.additive_models import Terms, block_terms, bound_space


def bit_space() -> SearchSpace:
    return sam_vit_t().freeze({"resolution": 256, "keep.*": 2})


def test_terms_are_the_models_own_or_the_slots() -> None:
    space = toy()
    own = Terms(space, "score", block_terms(), seed=0)
    assert isinstance(own, Additive)
    assert terms_of(own, space) == tuple(block_terms())
    costs = Bitops(CostContext(space))
    assert not isinstance(costs, Additive)
    assert terms_of(costs, space)[0] == ("resolution", "blocks.0.width", "blocks.0.bits")


def test_groups_of_sam_are_the_two_halves_of_a_block() -> None:
    space = bit_space()
    tables = AdditiveTables(space, [Bitops(CostContext(space))])
    assert tables.shared == ()
    (only,) = tables.each()
    sizes = [len(group.options) for group in only.groups]
    assert sizes == [3 * 4**4 * 2, 3 * 4**4] * 8  # qkv, attention, proj share heads; lin1, lin2


@pytest.mark.parametrize("make", [toy, bit_space, bound_space])
def test_sums_equal_the_models_for_every_kind_of_arch(make) -> None:
    space = make()
    models = [Terms(space, "score", block_terms(), seed=1)] if make is bound_space else [
        Bitops(CostContext(space)), Macs(CostContext(space))
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    tables = AdditiveTables(space, models, largest_group=1536 if make is bit_space else 9)
    for table in tables.each():
        chosen = [int(rng.integers(len(group.options))) for group in table.groups]
        archs = space.decode(table.x(chosen)[None])
        sums = table.constant + sum(g.values[o] for g, o in zip(table.groups, chosen, strict=True))
        values = [model.evaluate(archs)[0] for model in models]
        np.testing.assert_allclose(sums, values, rtol=1e-9)
        assert all(group.values.min() >= 0 for group in table.groups)
        genes = archs[0].genes
        assert {name: genes[name] for name in table.shared if name in genes} == {
            k: v for k, v in table.shared.items() if k in genes
        }


def test_what_touches_every_table_is_shared_and_many_are_refused() -> None:
    space = sam_vit_t()
    assert AdditiveTables(space, [Bitops(CostContext(space))]).shared == (
        "resolution", "keep.0", "keep.1", "keep.2", "keep.3",
    )  # fmt: skip
    with pytest.raises(SpaceError, match=r"324 combinations .* resolution \(4\), keep.0 \(3\)"):
        AdditiveTables(space, [Bitops(CostContext(space))], most_combinations=100)


def test_a_chain_of_stages_is_cut() -> None:
    space = mobile_cnn().freeze({"resolution": 224})
    tables = AdditiveTables(space, [Bitops(CostContext(space))])
    assert all(name.endswith(".width") for name in tables.shared)


def test_a_wrong_claim_about_terms_is_found() -> None:
    space = toy()
    model = Bitops(CostContext(space))
    model.terms = lambda: [("resolution",), ("blocks.0.bits",)]  # type: ignore[attr-defined]
    with pytest.raises(CostError, match="bitops is no sum"):
        AdditiveTables(space, [model], largest_group=9).each()
