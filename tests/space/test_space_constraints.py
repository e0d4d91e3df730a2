"""Constraints: repair, sampling under them, and spaces that cannot meet them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hwnas.errors import ArchError, SpaceError
from hwnas.space import SearchSpace, at_most, choice, implies, ordinal, repeat, require


def test_repair_moves_to_the_nearest_allowed_combination() -> None:
    def far(a: int, b: int, c: str) -> bool:
        return (7 * a + 3 * b + "xyz".index(c)) % 5 == 0

    space = SearchSpace(
        "s",
        [ordinal("a", range(5)), ordinal("b", range(4)), choice("c", ["x", "y", "z"])],
        constraints=[require("far", ["a", "b", "c"], far)],
    )
    everything = list(itertools.product(range(5), range(4), range(3)))
    allowed = [v for v in everything if far(v[0], v[1], "xyz"[v[2]])]
    for given, mended in zip(everything, space.repair(everything), strict=True):

        def steps(to: tuple[int, ...], given: tuple[int, ...] = given) -> int:
            return abs(to[0] - given[0]) + abs(to[1] - given[1]) + (to[2] != given[2])

        assert tuple(mended) == min(allowed, key=lambda v: (steps(v), v))


def test_repair_leaves_valid_rows_alone_even_where_genes_are_absent() -> None:
    space = SearchSpace(
        "s",
        [ordinal("n", [1, 2]), repeat("b", 2, [ordinal("w", [1, 2, 3])], depth="n")],
        constraints=[at_most("b.1.w", "b.0.w")],
    )
    x = np.array([[0, 0, 2], [1, 0, 2]])  # n, b.0.w, b.1.w
    assert (space.repair(x)[0] == x[0]).all()
    assert not (space.repair(x)[1] == x[1]).all()


def test_decode_refuses_what_breaks_a_constraint_and_says_how_to_mend_it() -> None:
    space = SearchSpace(
        "s", [ordinal("a", [1, 2]), ordinal("b", [1, 2])], constraints=[at_most("a", "b")]
    )
    with pytest.raises(ArchError, match=r"1 of 2 rows .*repair\(x\)"):
        space.decode([[0, 0], [1, 0]])
    assert len(space.decode(space.repair([[0, 0], [1, 0]]))) == 2


def test_a_chain_of_constraints_is_met() -> None:
    names = [f"g{i}" for i in range(8)]
    space = SearchSpace(
        "s",
        [ordinal(n, range(6)) for n in names],
        constraints=[
            require(f"{a} below {b}", [a, b], lambda x, y: x < y or x == y == 5)
            for a, b in itertools.pairwise(names)
        ],
    )
    x = np.random.default_rng(0).integers(0, 6, size=(50, 8))
    values = space.repair(x)
    steps = np.diff(values, axis=1)
    assert ((steps > 0) | (values[:, 1:] == 5)).all()
    assert len(space.sample(np.random.default_rng(0), 50)) == 50


def test_rules_that_chase_one_another_need_a_search() -> None:
    """Each rule alone is mended by a move that breaks the other; a joint solution exists."""
    space = SearchSpace(
        "s",
        [choice("a", range(4)), choice("b", range(4))],
        constraints=[
            require("same", ["a", "b"], lambda a, b: a == b or (a, b) == (3, 2)),
            require("not same", ["b", "a"], lambda b, a: a != b),
        ],
    )
    assert space.size() == 1
    assert [(a["a"], a["b"]) for a in space.sample(np.random.default_rng(0), 3)] == [(3, 2)] * 3
    assert space.repair([[0, 0]]).tolist() == [[3, 2]]


def test_rules_that_exclude_one_another_end_in_an_error() -> None:
    space = SearchSpace(
        "s",
        [ordinal("a", range(3)), ordinal("b", range(3)), ordinal("c", range(3))],
        constraints=[
            require("a < b", ["a", "b"], lambda a, b: a < b),
            require("b < c", ["b", "c"], lambda b, c: b < c),
            require("c < 2", ["c"], lambda c: c < 2),
        ],
    )
    assert space.size() == 0
    with pytest.raises(SpaceError, match=r"a < b.*exclude one another"):
        space.largest()
    with pytest.raises(SpaceError, match="exclude one another"):
        space.sample(np.random.default_rng(0), 1)


def test_samples_under_constraints_are_the_uniform_draw_given_the_constraints() -> None:
    space = SearchSpace(
        "s",
        [ordinal("a", range(4)), ordinal("b", range(4)), ordinal("free", range(2))],
        constraints=[at_most("a", "b")],
    )
    archs = space.sample(np.random.default_rng(0), 20_000)
    ids, counts = np.unique(archs.ids, return_counts=True)
    assert len(ids) == space.size() == 20
    expected = 20_000 / 20
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 43.8  # 0.1 % point with 19 degrees of freedom


def test_samples_draw_each_depth_equally_often() -> None:
    block = [ordinal("w", range(5))]
    space = SearchSpace(
        "s", [ordinal("n", [1, 2, 3], role="depth"), repeat("b", 3, block, depth="n")]
    )
    depths = space.sample(np.random.default_rng(0), 3000).values("n").astype(int)
    assert (np.abs(np.bincount(depths)[1:] - 1000) < 120).all()  # about four standard deviations


def test_same_generator_same_sample() -> None:
    space = SearchSpace("s", [ordinal("a", range(9)), ordinal("b", range(9))])
    one, two = (space.sample(np.random.default_rng(7), 30).ids for _ in range(2))
    assert one == two


def test_a_glob_constrains_each_block() -> None:
    space = SearchSpace(
        "s",
        [ordinal("width", [8, 16]), repeat("b", 2, [ordinal("w", [8, 16])])],
        constraints=[at_most("b.*.w", "width"), implies({"width": 16}, {"b.*.w": [16]})],
    )
    assert space.size() == 2


def test_size_is_a_bound_where_counting_would_be_too_wide() -> None:
    names = [f"g{i}" for i in range(12)]
    pairs = list(itertools.combinations(names, 2))
    space = SearchSpace(
        "s",
        [ordinal(n, range(4)) for n in names],
        constraints=[require(f"{a}{b}", [a, b], lambda x, y: x + y != 3) for a, b in pairs],
    )
    assert not space.size_is_exact
    assert space.size() == 4**12
    assert "architectures at most" in space.describe()
    listed = sum(len(chunk) for chunk in space.enumerate())
    assert 0 < listed < 4**12
    with pytest.raises(SpaceError, match="more than 100"):
        list(space.enumerate(limit=100))


def test_enumerate_refuses_a_space_above_the_limit_at_once() -> None:
    space = SearchSpace("s", [ordinal(f"g{i}", range(10)) for i in range(30)])
    with pytest.raises(SpaceError, match="raise the limit, freeze genes, or sample"):
        space.enumerate()


def test_a_rule_that_forbids_everything_is_met_by_dropping_its_block() -> None:
    space = SearchSpace(
        "s",
        [ordinal("n", [1, 2, 3]), repeat("b", 3, [ordinal("w", [1, 2])], depth="n")],
        constraints=[require("never", ["b.1.w"], lambda w: w > 2)],
    )
    assert space.size() == 2
    assert space.largest()["n"] == 1
    assert {a["n"] for a in space.sample(np.random.default_rng(0), 20)} == {1}
