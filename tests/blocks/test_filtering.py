"""What a filter drops, and why."""

import itertools

import numpy as np
import pytest

from hwnas.blocks.filtering import Candidate, filter_blocks
from hwnas.errors import CostError

TEACHER = Candidate("teacher", 0.0, 10.0)


def reasons(*candidates, **options):
    found = filter_blocks([TEACHER, *candidates], "teacher", **options)
    assert {c.block for c in found.kept} | {d.block for d in found.dropped} == {
        "teacher", *(c.block for c in candidates)
    }  # fmt: skip
    return {d.block: (d.reason, d.by) for d in found.dropped}


def test_slow_and_beaten_blocks_go():
    dropped = reasons(
        Candidate("fast", 0.5, 1.0), Candidate("worse", 0.6, 2.0), Candidate("good", 0.1, 5.0),
        Candidate("slow", 0.0, 11.0),
    )  # fmt: skip
    assert dropped == {"worse": ("beaten", "fast"), "slow": ("slow", "teacher")}


def test_a_slower_block_must_be_better_by_the_tolerance():
    near = Candidate("near", 0.496, 2.0)
    assert reasons(Candidate("fast", 0.5, 1.0), near) == {"near": ("beaten", "fast")}
    assert not reasons(Candidate("fast", 0.5, 1.0), near, tolerance=0.0)


def test_of_equal_blocks_one_stays():
    dropped = reasons(Candidate("a", 0.5, 1.0), Candidate("b", 0.5, 1.0))
    assert dropped == {"b": ("beaten", "a")}


def test_the_teacher_stays_even_where_it_is_beaten():
    found = filter_blocks([TEACHER, Candidate("exact", 0.0, 1.0)], "teacher")
    assert [c.block for c in found.kept] == ["exact", "teacher"]


def test_slowest_moves_the_line():
    slow = Candidate("slow", -1.0, 12.0)
    assert reasons(slow) == {"slow": ("slow", "teacher")}
    assert not reasons(slow, slowest=1.3)


def test_nothing_kept_beats_another_that_was_kept():
    rng = np.random.default_rng(0)
    many = [Candidate(f"{i}", *rng.uniform(0.01, 9.0, 2)) for i in range(200)]
    found = filter_blocks([*many, TEACHER], "teacher", tolerance=0.05)
    kept = found.kept
    for fast, slow in itertools.pairwise(kept):
        assert slow.ms >= fast.ms
        assert slow.loss < 0.95 * fast.loss
    for drop in found.dropped:
        by = next(c for c in kept if c.block == drop.by)
        assert by.ms <= drop.ms if drop.reason == "beaten" else drop.ms > TEACHER.ms
        assert 0.95 * by.loss <= drop.loss


def test_impossible_arguments_are_refused():
    with pytest.raises(CostError, match="no block teacher"):
        filter_blocks([Candidate("a", 0.1, 1.0)], "teacher")
    with pytest.raises(CostError, match="slowest=0"):
        filter_blocks([TEACHER], "teacher", slowest=0)
