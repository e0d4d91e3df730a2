"""Variation, selection and duplicate elimination on choice indices."""

import numpy as np
import pytest

from hwnas.search.operators import (
    Fitness,
    Seen,
    blocks_of,
    cross,
    distinct_sample,
    first_population,
    mutate,
    tournament,
)
from hwnas.space import Archs, SearchSpace, choice, ordinal, repeat


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_mutation_stays_inside_and_changes_every_row(rng: np.random.Generator) -> None:
    sizes = np.array([2, 3, 5, 9])
    ordered = np.array([True, False, True, True])
    x = rng.integers(0, sizes, (4000, 4))
    before = x.copy()
    y = mutate(x, sizes, ordered, rng)
    assert (x == before).all()
    assert ((y >= 0) & (y < sizes)).all()
    assert (y != x).any(axis=1).all()
    assert 1.0 < (y != x).sum(axis=1).mean() < 1.6  # about one of four variables, at least one
    assert (mutate(x, sizes, ordered, rng, rate=4.0) != x).all()


def test_ordered_choices_take_short_steps_and_unordered_ones_any(rng: np.random.Generator) -> None:
    x = np.full((20000, 1), 4)
    sizes = np.array([9])
    step = np.abs(mutate(x, sizes, np.array([True]), rng) - 4)[:, 0]
    share = np.bincount(step, minlength=5)[1:] / len(step)
    assert share[0] == pytest.approx(0.6, abs=0.02)  # geometric
    assert share[1] == pytest.approx(0.24, abs=0.02)
    jumps = np.bincount(mutate(x, sizes, np.array([False]), rng)[:, 0], minlength=9) / len(x)
    assert jumps[4] == 0
    assert np.delete(jumps, 4) == pytest.approx(1 / 8, abs=0.02)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_steps_at_the_ends_lead_inside(size: int, rng: np.random.Generator) -> None:
    for start in range(size):
        x = np.full((500, 1), start)
        y = mutate(x, np.array([size]), np.array([True]), rng)
        assert set(y[:, 0].tolist()) == set(range(size)) - {start}


def test_crossover_only_exchanges(rng: np.random.Generator) -> None:
    first, second = np.zeros((3000, 6), dtype=np.int64), np.ones((3000, 6), dtype=np.int64)
    blocks = blocks_of(["r", "b.0.w", "b.0.h", "b.1.w", "b.1.h", "b.1.k"])
    assert blocks.tolist() == [0, 1, 1, 2, 2, 2]
    one, two = cross(first, second, blocks, rng)
    assert (one + two == 1).all()
    together = (one[:, 1] == one[:, 2]) & (one[:, 3:] == one[:, 3:4]).all(axis=1)
    assert 0.5 < together.mean() < 0.7  # 0.45 by blocks, 0.1 alone, and 1/8 of the rest by chance
    assert (one == 0).all(axis=1).mean() > 0.1


def test_tournaments_prefer_feasible_then_rank_then_crowding(rng: np.random.Generator) -> None:
    fitness = Fitness(
        np.array([0.0, 0.0, 0.0, 2.0, 1.0]),
        np.array([0.0, 0.0, 1.0, np.nan, np.nan]),
        np.array([np.inf, 0.5, 9.0, np.nan, np.nan]),
    )
    won = np.bincount(tournament(fitness, 20000, rng), minlength=5) / 20000
    assert won[0] > won[1] > won[2] > won[4] > won[3]
    assert won[3] < 0.05  # only against itself
    assert len(tournament(fitness, 3, rng)) == 3


def test_two_spellings_of_one_network_are_one(rng: np.random.Generator) -> None:
    space = SearchSpace(
        "s", [ordinal("depth", (1, 2)), repeat("b", 2, [choice("k", ("a", "c"))], depth="depth")]
    )
    shallow = space.decode([[0, 1, 0], [0, 1, 1]])  # differ in a block that is not there
    assert Seen().new(shallow, 9) == [0]
    seen = Seen()
    everything = distinct_sample(space, 100, seen, rng)
    assert len(everything) == space.size() == 6
    assert len(set(everything.ids)) == 6
    assert len(distinct_sample(space, 5, seen, rng)) == 0


def test_the_first_population_has_the_reference_designs(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    # "largest" may also be "uniform 8 bit": each design counts once
    references = list(dict.fromkeys(arch.id for _, arch in space.reference_designs()))
    assert len(references) > 2
    archs = first_population(space, 60, Seen(), rng)
    assert archs.ids[: len(references)] == tuple(references)
    assert len(set(archs.ids)) == 60
    few = first_population(space, 6, Seen(), rng)
    assert few.ids[:3] == tuple(references[:3])
    assert len(set(few.ids)) == 6
    assert len(first_population(space, 1, Seen(), rng)) == 1


def test_the_first_population_begins_with_what_it_is_given(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    given = space.sample(rng, 30).unique()
    archs = first_population(space, 40, Seen(), rng, start=given[:12])
    assert archs.ids[:12] == given.ids[:12]
    named = [arch.id for _, arch in space.reference_designs()]
    assert set(named) & set(archs.ids[12:])
    assert len(set(archs.ids)) == 40
    few = first_population(space, 8, Seen(), rng, start=given)
    last = len(given) - 1
    assert few.ids[:4] == tuple(given.ids[round(last * i / 3)] for i in range(4))
    twice = first_population(space, 8, Seen(), rng, start=[given[0], given[0]])
    assert len(set(twice.ids)) == 8


def test_a_space_with_one_arch_can_be_mutated(rng: np.random.Generator) -> None:
    empty = np.empty((3, 0), dtype=np.int64)
    assert mutate(empty, np.empty(0, np.int64), np.empty(0, bool), rng).shape == (3, 0)
    assert cross(empty, empty, blocks_of([]), rng)[0].shape == (3, 0)


def test_operators_leave_the_global_generator_alone(space: SearchSpace) -> None:
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - it is what must not move
    rng = np.random.default_rng(0)
    archs = first_population(space, 20, Seen(), rng)
    mutate(space.encode(archs), space.variable_sizes, space.variable_ordered, rng)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    assert isinstance(archs, Archs)
