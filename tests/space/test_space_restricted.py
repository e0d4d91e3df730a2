"""Frozen and restricted spaces; slots and lowering."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from hwnas.errors import SpaceError
from hwnas.space import Arch, SearchSpace, Slot, at_most, link, ordinal, repeat


def layers(*values: int) -> tuple[str, ...]:
    return tuple(f"layer{v}" for v in values)


def lowered(arch: Arch) -> str:
    return f"workload of {arch.id}"


def blocks(**options: object) -> SearchSpace:
    return SearchSpace(
        "blocks",
        [
            ordinal("resolution", [96, 128], role="resolution"),
            ordinal("depth", [1, 2, 3], role="depth"),
            repeat("b", 3, [ordinal("w", [8, 16, 32]), ordinal("bits", [4, 8])], depth="depth"),
        ],
        **options,  # type: ignore[arg-type]
    )


def test_frozen_genes_are_no_variables_and_keep_their_place_in_archs() -> None:
    space = blocks()
    frozen = space.freeze({"resolution": 96, "b.*.bits": 8})
    assert frozen.n_var == space.n_var - 4
    assert frozen.size() == 3 + 9 + 27
    arch = frozen.largest()
    assert arch["resolution"] == 96
    assert arch["b.2.bits"] == 8
    assert arch.id == space.arch(arch.genes).id
    assert frozen.arch({"depth": 1, "b.0.w": 8})["b.0.bits"] == 8
    assert {g.name for g in frozen.genes} == {g.name for g in space.genes}


def test_archs_of_a_restricted_space_are_archs_of_the_whole() -> None:
    space = blocks()
    small = space.restrict({"b.*.w": [8, 32], "depth": [1, 3]})
    archs = small.sample(np.random.default_rng(0), 50)
    assert space.archs(list(archs)).ids == archs.ids
    assert space.archs(archs).ids == archs.ids
    assert small.size() == 2 * (4 + 4**3)
    assert sum(len(c) for c in small.enumerate()) == small.size()


def test_a_block_that_is_never_active_is_gone_from_the_variables() -> None:
    shallow = blocks().restrict({"depth": [1, 2]})
    assert not any(v.name.startswith("b.2") for v in shallow.variables)
    assert shallow.size() == 2 * (6 + 36)
    assert "b.2:present" not in shallow.feature_names
    assert "b.2.w" not in shallow.largest().genes
    one = blocks().freeze({"depth": 1})
    assert one.size() == 2 * 6
    assert not one.gene("b.0.w").conditional


def test_restrictions_add_up() -> None:
    space = blocks().restrict({"b.*.w": [8, 16]}).restrict({"b.0.w": [16]}).freeze({"depth": 1})
    assert space.smallest()["b.0.w"] == 16
    with pytest.raises(SpaceError, match=r"'b.1.w': \[32\] not among its options"):
        space.freeze({"b.1.w": 32})
    with pytest.raises(SpaceError, match="nearest: depth"):
        space.freeze({"dept": 1})


def test_restrictions_reach_tied_genes_and_constraints() -> None:
    space = blocks(links=[link("b.*.w")], constraints=[at_most("b.0.bits", "b.1.bits")])
    small = space.restrict({"b.1.w": [16]})
    assert all(g.options == (16,) for g in small.genes if g.name.endswith(".w"))
    assert small.freeze({"b.1.bits": 4, "depth": 2}).size() == 2 * 1
    with pytest.raises(SpaceError, match="no option is left"):
        space.restrict({"b.0.w": [8], "b.1.w": [16]})


def test_a_gene_frozen_to_what_a_constraint_needs_is_not_moved_by_repair() -> None:
    space = blocks(constraints=[at_most("b.0.w", "b.1.w")]).freeze({"b.1.w": 8, "depth": 2})
    assert space.largest()["b.0.w"] == 8


def test_whatever_the_space_carries_goes_along() -> None:
    space = blocks(
        slots=[Slot("stem", ("resolution",), layers)],
        lower=lowered,
        supernet="net",
        description="words",
        extras={"geometry": 3},
    )
    small = space.freeze({"depth": 1})
    assert small.slots == space.slots
    assert (small.supernet, small.description, small.extras) == ("net", "words", {"geometry": 3})
    assert small.lower(small.largest()).startswith("workload of")
    again = pickle.loads(pickle.dumps(small))
    assert again.largest() == small.largest()
    assert again.lower(again.largest()) == small.lower(small.largest())


def test_slots_give_the_layers_of_the_blocks_that_are_there() -> None:
    slots = [Slot("stem", ("resolution",), layers)]
    slots += [Slot(f"b.{i}", ("resolution", f"b.{i}.w"), layers, shared="b") for i in range(3)]
    space = blocks(slots=slots)
    arch = space.arch({"resolution": 96, "depth": 1, "b.0.w": 16, "b.0.bits": 4})
    assert space.lower(arch) == ("layer96", "layer96", "layer16")


def test_a_space_without_layers_says_so() -> None:
    space = blocks()
    with pytest.raises(SpaceError, match="without slots and without lower"):
        space.lower(space.largest())


def test_features_of_names_are_scaled_by_position_and_of_numbers_by_value() -> None:
    space = SearchSpace(
        "s", [ordinal("size", ["s", "m", "l"]), ordinal("w", [10, 20, 110]), ordinal("on", [0, 1])]
    )
    f = space.features([space.arch({"size": "m", "w": 20, "on": 1})])
    assert f.tolist() == [[0.5, 0.1, 1.0]]
    assert space.feature_names == ("size", "w", "on")


def test_absent_genes_have_zero_features_and_a_column_that_says_so() -> None:
    space = blocks()
    f = space.features([space.arch({"resolution": 128, "depth": 1, "b.0.w": 8, "b.0.bits": 8})])
    named = dict(zip(space.feature_names, f[0].tolist(), strict=True))
    assert named["b.1.bits"] == named["b.1:present"] == 0
    assert named["b.0.bits"] == named["resolution"] == 1
    assert "b.0:present" not in named
    assert space.largest().genes.keys() >= {"b.2.w"}
    full = dict(zip(space.feature_names, space.features([space.largest()])[0], strict=True))
    assert full["b.2:present"] == 1


def test_reference_designs_without_roles_are_the_extremes() -> None:
    space = SearchSpace("s", [ordinal("a", [1, 2])])
    assert [label for label, _ in space.reference_designs()] == ["largest", "smallest"]


def test_reference_designs_meet_the_constraints() -> None:
    space = SearchSpace(
        "s",
        [ordinal("w_bits", [2, 4, 8], role="bits"), ordinal("a_bits", [4, 8, 16], role="bits")],
        constraints=[at_most("a_bits", "w_bits")],
    )
    designs = dict(space.reference_designs())
    assert list(designs) == ["largest", "smallest", *(f"uniform {b} bit" for b in (16, 8, 4, 2))]
    assert all(not space.validate(a.genes) for a in designs.values())
    assert dict(designs["uniform 4 bit"].genes) == {"w_bits": 4, "a_bits": 4}


def test_a_space_is_described_in_plain_data_and_in_words() -> None:
    space = blocks(constraints=[at_most("b.*.bits", "b.0.w")], links=[link("b.*.w")])
    assert "b.*.bits (3): 4 < 8" in space.describe()
    plain = space.to_dict()
    assert plain["size"] == str(space.size())
    assert plain["genes"][6]["active_when"] == {"depth": [3]}
    assert plain["links"] == [["b.*.w"]]
