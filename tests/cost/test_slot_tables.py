"""Per-slot tables against lowering arch by arch."""

import pickle

import numpy as np
import pytest

import hwnas.cost.slot_table as slot_table_module
from hwnas.cost import CostContext, SlotTables
from hwnas.cost.lowering import lower
from hwnas.errors import ArchError, SpaceError
from hwnas.space import Archs, SearchSpace, Slot, ordinal
from hwnas.workload import LayerSpec
from search_spaces.sam import sam_vit_t
from search_spaces.toy import toy


def measure(table):
    return np.stack([table.bit_operations(), table.weight_bytes()], axis=1)


def by_loops(space, arch):
    """The slow twin of `measure` summed over an arch."""
    totals = [0.0, 0.0]
    for layer in lower(space, arch).layers:
        totals[0] += layer.macs * layer.w_bits * layer.a_bits
        packed = -(-layer.weight_elems * layer.w_bits // 8)
        totals[1] += packed + 4 * (layer.scales + layer.bias_elems)
    return totals


@pytest.fixture(scope="module")
def space():
    return sam_vit_t()


@pytest.fixture
def archs(space):
    return space.sample(np.random.default_rng(3), 40)


def test_totals_equal_loops_over_the_lowered_layers(space, archs):
    totals = SlotTables(CostContext(space), measure, width=2).totals(archs)
    assert totals.tolist() == [by_loops(space, arch) for arch in archs]


def test_one_column_is_that_of_the_totals(space, archs):
    tables = SlotTables(CostContext(space), measure, width=2)
    assert tables.totals(archs, 1).tolist() == tables.totals(archs)[:, 1].tolist()


def test_a_batch_equals_singles_in_any_order_twice(space, archs):
    tables = SlotTables(CostContext(space), measure, width=2)
    order = np.random.default_rng(0).permutation(len(archs))
    shuffled = tables.totals(archs.take(order))
    batch = tables.totals(archs)
    assert shuffled.tolist() == batch[order].tolist()
    assert batch.tolist() == tables.totals(archs).tolist()
    assert tables.totals(list(archs)).tolist() == batch.tolist()
    singles = [tables.totals(archs[i : i + 1])[0].tolist() for i in range(len(archs))]
    assert singles == batch.tolist()


def test_maxima(space, archs):
    tables = SlotTables(
        CostContext(space), lambda t: t.live_bytes()[:, None], width=1, reduce="max"
    )
    expected = [float(lower(space, a).table().live_bytes().max()) for a in archs]
    assert tables.totals(archs, 0).tolist() == expected


def test_no_archs_have_no_totals(space):
    assert SlotTables(CostContext(space), measure, width=2).totals([]).shape == (0, 2)


def test_equal_blocks_share_a_table(space):
    tables = SlotTables(CostContext(space), measure, width=2)
    kinds = {id(table) for table in tables._tables}
    assert len(tables._tables) == 63
    assert len(kinds) == 3 + 2 * 5  # windowed and global blocks have five slots each


def test_parts_add_up(space, archs):
    tables = SlotTables(CostContext(space), measure, width=2)
    parts = tables.parts(archs[0])
    assert {"stem", "neck", "mask_decoder"} < set(parts)
    assert sum(v[0] for v in parts.values()) == tables.totals(archs[:1], 0)[0]


def test_models_of_a_context_share_the_index_of_a_batch(space, archs):
    context = CostContext(space)
    first = context.slot_index.of(archs)
    assert context.slot_index.of(archs) is first
    other = context.slot_index.of(archs[:3])
    assert context.slot_index.of(archs[:3]) is not other  # another batch object


def test_the_index_lets_go_of_a_batch(space):
    context = CostContext(space)
    batch = space.sample(np.random.default_rng(0), 2)
    context.slot_index.of(batch)
    del batch
    assert context.slot_index._last is None


def test_tables_survive_pickling(space, archs):
    tables = SlotTables(CostContext(space), measure, width=2)
    expected = tables.totals(archs).tolist()
    again = pickle.loads(pickle.dumps(tables))
    assert again.totals(list(archs)).tolist() == expected


def test_a_slot_with_many_combinations_keeps_those_seen(monkeypatch, space, archs):
    dense = SlotTables(CostContext(space), measure, width=2).totals(archs)
    monkeypatch.setattr(slot_table_module, "_DENSE", 8)
    sparse = SlotTables(CostContext(space), measure, width=2)
    assert sparse.totals(archs[:5]).tolist() == dense[:5].tolist()
    assert sparse.totals(archs).tolist() == dense.tolist()
    assert sparse.totals(archs).tolist() == dense.tolist()


def test_a_slot_with_too_many_genes_is_refused():
    names = [f"g{i}" for i in range(70)]
    space = SearchSpace(
        "wide",
        [ordinal(n, (1, 2)) for n in names],
        slots=[Slot("all", tuple(names), lambda *_: ())],
    )
    with pytest.raises(SpaceError, match="slot all of wide depends on 70 genes"):
        CostContext(space).slot_index.of(space.sample(np.random.default_rng(0), 1))


def test_a_space_without_slots_is_lowered_arch_by_arch_once():
    calls = []

    def layers(arch):
        calls.append(arch.id)
        return (LayerSpec("a", "linear", arch["n"], arch["n"], 1, 1, w_bits=4, a_bits=8),)

    space = SearchSpace("plain", [ordinal("n", (3, 5, 7))], lower=layers)
    archs = Archs.of(space, [space.arch({"n": n}) for n in (5, 3, 5)])
    tables = SlotTables(CostContext(space), measure, width=2)
    assert tables.totals(archs).tolist() == [[160, 3], [96, 2], [160, 3]]
    assert tables.totals(archs, 0).tolist() == [160, 96, 160]
    assert len(calls) == 2


def test_a_space_that_cannot_lower_says_so():
    space = SearchSpace("bare", [ordinal("n", (3, 5))])
    with pytest.raises(SpaceError, match="without slots and without lower"):
        SlotTables(CostContext(space), measure, width=2).totals([space.arch({"n": 3})])


def test_lowering_to_something_else_is_refused():
    space = SearchSpace("odd", [ordinal("n", (3, 5))], lower=lambda arch: [1, 2])
    with pytest.raises(SpaceError, match="expected a Workload or a tuple of LayerSpec"):
        lower(space, space.arch({"n": 3}))


def test_archs_of_another_space_are_refused(archs):
    tables = SlotTables(CostContext(toy()), measure, width=2)
    with pytest.raises(ArchError, match="sam-vit-t"):
        tables.totals(archs)
