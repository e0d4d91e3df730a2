"""Spaces that are declared wrongly, and what the errors say."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from hwnas.errors import SpaceError
from hwnas.space import (
    Choice,
    SearchSpace,
    Slot,
    at_most,
    choice,
    implies,
    link,
    ordinal,
    repeat,
    require,
)

A = ordinal("a", [1, 2, 3])
TEXT = choice("text", ["x", "y"])


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: ordinal("a b", [1]), "letters, digits"),
        (lambda: ordinal("a.", [1]), "letters, digits"),
        (lambda: ordinal("a", []), "0 options"),
        (lambda: ordinal("a", [2, 1]), "from the smallest to the largest"),
        (lambda: ordinal("a", [1, 1.0]), "each one once"),
        (lambda: choice("a", [1, True]), "each one once"),
        (lambda: ordinal("a", [1, "two"]), "of one kind"),
        (lambda: choice("a", [float("nan")]), "finite numbers"),
        (lambda: choice("a", [None]), "finite numbers"),  # type: ignore[list-item]
        (lambda: choice("a", [1, 2], role="size"), "resolution, depth, width"),  # type: ignore[arg-type]
        (lambda: choice("a", ["low"], role="bits"), "takes numeric options"),
        (lambda: repeat("b", 0, [A]), "one or more"),
        (lambda: repeat("b", [1, 1], [A]), "all different"),
        (lambda: repeat("b", [-1], [A]), "none below 0"),
        (lambda: repeat("b", 2, []), "at least one for each block"),
        (lambda: repeat("b", 2, [A], keep_order=[0]), "in some order"),
    ],
)
def test_a_wrong_choice_is_refused(declare: Callable[[], object], said: str) -> None:
    with pytest.raises(SpaceError, match=said):
        declare()


def depth(*options: int) -> Choice:
    return ordinal("depth", options, role="depth")


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: SearchSpace("s", []), "at least one declaration"),
        (lambda: SearchSpace("s", [A, A]), "'a' is declared more than once"),
        (
            lambda: SearchSpace("s", [repeat("b", 2, [A], depth="dept"), depth(1, 2)]),
            "nearest: depth",
        ),
        (
            lambda: SearchSpace("s", [repeat("b", 3, [A], depth="depth"), depth(1, 2)]),
            "never active",
        ),
        (lambda: SearchSpace("s", [repeat("b", 1, [A], depth="depth"), depth(1, 2)]), "goes to 2"),
        (
            lambda: SearchSpace("s", [TEXT, repeat("b", 1, [A], depth="text")]),
            "ordered whole numbers",
        ),
        (
            lambda: SearchSpace("s", [repeat("b", 1, [depth(0, 1), A], depth="b.0.depth")]),
            "inside the repeat that it rules",
        ),
        (lambda: SearchSpace("s", [A], links=[link("b*")]), "no gene matches"),
        (lambda: SearchSpace("s", [A], links=[link("a")]), "two genes or more"),
        (lambda: SearchSpace("s", [A, TEXT], links=[link("*")]), "tied genes have the same"),
        (lambda: SearchSpace("s", [A], only={"a": [4]}), r"\[4\] not among its options"),
        (
            lambda: SearchSpace("s", [A, TEXT], constraints=[at_most("a", "text")]),
            "expected numbers",
        ),
        (lambda: SearchSpace("s", [A], constraints=[at_most("a", "a")]), "with itself"),
        (lambda: SearchSpace("s", [A, TEXT], constraints=[at_most("a", "t*")]), "is a glob"),
        (
            lambda: SearchSpace("s", [A, TEXT], constraints=[implies({"a": 4}, {"text": "x"})]),
            "not",
        ),
        (lambda: SearchSpace("s", [A, TEXT], constraints=[implies({}, {"a": 1})]), "both sides"),
        (
            lambda: SearchSpace("s", [A], constraints=[require("none", ["a"], lambda a: a > 3)]),
            "forbids every combination",
        ),
        (lambda: SearchSpace("s", [A], slots=[Slot("p", ("b",), tuple)]), "slot 'p': no gene 'b'"),
    ],
)
def test_a_wrong_space_is_refused(build: Callable[[], object], said: str) -> None:
    with pytest.raises(SpaceError, match=said) as caught:
        build()
    assert "space 's'" in str(caught.value)


def test_everything_wrong_with_a_space_is_listed_together() -> None:
    with pytest.raises(SpaceError) as caught:
        SearchSpace(
            "s",
            [A, TEXT],
            links=[link("x.*")],
            constraints=[at_most("aa", "a"), at_most("a", "text")],
            only={"text": ["z"]},
            slots=[Slot("p", ("b",), tuple), Slot("p", ("a",), tuple)],
        )
    assert str(caught.value).startswith("space 's': 6 problems\n")


def test_a_table_that_would_not_fit_is_refused() -> None:
    many = [ordinal(f"g{i}", range(101)) for i in range(3)]
    rule = require("sum", [g.name for g in many], lambda *v: sum(v) < 10)
    with pytest.raises(SpaceError, match="1,030,301 combinations"):
        SearchSpace("s", many, constraints=[rule])


def test_a_glob_stays_within_one_part_of_a_name() -> None:
    space = SearchSpace(
        "s", [repeat("b", 2, [A, ordinal("in.a", [1, 2, 3])])], links=[link("b.*.a")]
    )
    assert [v.name for v in space.variables] == ["b.0.a", "b.0.in.a", "b.1.in.a"]


def test_the_nearest_depth_is_meant() -> None:
    inner = [depth(1, 2), repeat("blocks", 2, [A], depth="depth")]
    space = SearchSpace(
        "s", [ordinal("depth", [1, 2, 3]), repeat("stages", 3, inner, depth="depth")]
    )
    genes = space.to_dict()["genes"]
    when = {g["name"]: g["active_when"] for g in genes}
    assert when["stages.2.blocks.1.a"] == {"depth": [3], "stages.2.depth": [2]}
    assert when["stages.0.blocks.0.a"] == {}
    assert space.size() == sum((3 + 9) ** d for d in (1, 2, 3))


def test_links_that_tie_depths_in_a_circle_are_refused_or_counted() -> None:
    """The second depth is tied to the first one, which decides whether it is there."""
    space = SearchSpace(
        "s",
        [
            ordinal("depth", [1, 2]),
            repeat(
                "stages", 2, [ordinal("n", [1, 2]), repeat("b", 2, [A], depth="n")], depth="depth"
            ),
        ],
        links=[link("depth", "stages.1.n")],
    )
    ids = [i for chunk in space.enumerate() for i in chunk.ids]
    assert len(set(ids)) == len(ids) == space.size() == (3 + 9) + (3 + 9) * 9


def test_links_that_leave_no_order_are_counted_and_not_enumerated() -> None:
    """Whether a is there hangs on b, and the other way round, by way of different genes."""
    a, b = (ordinal(n, [0, 1]) for n in "ab")
    space = SearchSpace(
        "s",
        [
            *(ordinal(n, [0, 1]) for n in "cde"),
            repeat("x", 1, [b, repeat("u", 1, [a], depth="b")], depth="c"),
            repeat("y", 1, [a, repeat("v", 1, [b], depth="a")], depth="d"),
        ],
        links=[link("x.0.u.0.a", "y.0.a"), link("x.0.b", "y.0.v.0.b")],
    )
    everything = np.array(list(itertools.product(*(range(int(n)) for n in space.variable_sizes))))
    assert space.size() == len(space.decode(everything).unique())
    with pytest.raises(SpaceError, match="drop a link"):
        list(space.enumerate())
