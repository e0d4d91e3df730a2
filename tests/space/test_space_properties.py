"""The algebra of spaces against a slow twin that walks the declarations with dictionaries."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hwnas.errors import SpaceError
from hwnas.space import (
    Choice,
    Constraint,
    Declaration,
    Link,
    SearchSpace,
    at_most,
    choice,
    implies,
    link,
    ordinal,
    repeat,
    require,
)

PROPERTIES = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@dataclass(frozen=True)
class Declared:
    """A random space and the genes that its link ties."""

    declarations: tuple[Declaration, ...]
    constraints: tuple[Constraint, ...]
    links: tuple[Link, ...]
    tied: tuple[str, ...]

    def space(self) -> SearchSpace:
        return SearchSpace(
            "random", self.declarations, constraints=self.constraints, links=self.links
        )


def even_sum(*values: Any) -> bool:
    return sum(values) % 2 == 0


@st.composite
def choices(draw: st.DrawFn, name: str) -> Choice:
    n = draw(st.integers(1, 3))
    kind = draw(st.sampled_from([ordinal, choice]))
    return kind(name, sorted(draw(st.permutations([1, 2, 3, 4]))[:n]))


@st.composite
def repeats(draw: st.DrawFn, name: str, inner: list[Declaration]) -> list[Declaration]:
    """Declare a repeat and, mostly, its depth."""
    blocks = draw(st.integers(1, 3 if len(inner) == 1 else 2))
    indices = draw(st.permutations(range(5)))[:blocks]
    if not draw(st.integers(0, 3)):
        return [repeat(name, indices, inner)]
    lowest = draw(st.integers(0, blocks))
    depth = ordinal(f"{name}_depth", range(lowest, blocks + 1), role="depth")
    order = draw(st.permutations(indices))
    return [repeat(name, indices, inner, depth=depth.name, keep_order=order), depth]


@st.composite
def declared(draw: st.DrawFn) -> Declared:
    top: list[Declaration] = [draw(choices("a")), draw(choices("b"))]
    inner: list[Declaration] = [draw(choices("w"))]
    if draw(st.booleans()):
        inner += draw(repeats("deep", [draw(choices("v"))]))
    top += draw(repeats("blocks", inner))
    names = list(all_genes(top))
    constraints = draw(st.lists(constraint(names), max_size=2))
    tied = [n for n in names if n.endswith(".w")]
    if len(tied) < 2 or not draw(st.booleans()):
        return Declared(tuple(top), tuple(constraints), (), ())
    return Declared(tuple(top), tuple(constraints), (link("blocks.*.w"),), tuple(tied))


@st.composite
def constraint(draw: st.DrawFn, names: list[str]) -> Constraint:
    one, two = draw(st.permutations(names))[:2]
    kind = draw(st.integers(0, 2))
    if kind == 0:
        return at_most(one, two)
    return require("even", [one, two] if kind == 1 else [two], even_sum)


def all_genes(declarations: Any, prefix: str = "") -> dict[str, Choice]:
    found: dict[str, Choice] = {}
    for d in declarations:
        if isinstance(d, Choice):
            found[prefix + d.name] = d
        else:
            for i in d.indices:
                found |= all_genes(d.choices, f"{prefix}{d.name}.{i}.")
    return found


def active_only(declarations: Any, genes: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Drop the genes of dropped blocks, by walking the declarations."""
    kept: dict[str, Any] = {}
    for d in declarations:
        if isinstance(d, Choice):
            kept[prefix + d.name] = genes[prefix + d.name]
            continue
        n = len(d.indices) if d.depth is None else genes[prefix + d.depth]
        for i in d.keep_order[:n]:
            kept |= active_only(d.choices, genes, f"{prefix}{d.name}.{i}.")
    return kept


def holds(rule: Any, genes: dict[str, Any]) -> bool:
    names = (rule.low, rule.high) if hasattr(rule, "low") else rule.genes
    if any(n not in genes for n in names):
        return True
    values = [genes[n] for n in names]
    return values[0] <= values[1] if hasattr(rule, "low") else rule.predicate(*values)


def twin(spec: Declared) -> set[frozenset[tuple[str, Any]]]:
    """Return every architecture, the slow way."""
    options = {n: c.options for n, c in all_genes(spec.declarations).items()}
    assume(np.prod([len(o) for o in options.values()]) <= 3000)
    found = set()
    for values in itertools.product(*options.values()):
        genes = active_only(spec.declarations, dict(zip(options, values, strict=True)))
        ties = {genes[n] for n in spec.tied if n in genes}
        if len(ties) <= 1 and all(holds(c, genes) for c in spec.constraints):
            found.add(frozenset(genes.items()))
    return found


def built(spec: Declared) -> Iterator[tuple[SearchSpace, set[frozenset[tuple[str, Any]]]]]:
    """Yield the space and its twin; nothing if no architecture is allowed."""
    archs = twin(spec)
    try:
        space = spec.space()
    except SpaceError:
        assert not archs
        return
    assert space.size_is_exact
    assert space.size() == len(archs)
    if archs:
        yield space, archs


@PROPERTIES
@given(declared())
def test_size_and_enumerate_agree_with_the_twin(spec: Declared) -> None:
    for space, archs in built(spec):
        listed = [a for chunk in space.enumerate() for a in chunk]
        assert {frozenset(a.genes.items()) for a in listed} == archs
        assert len({a.id for a in listed}) == len(listed) == space.size()


@PROPERTIES
@given(declared(), st.integers(0, 2**31))
def test_one_encoding_for_every_spelling(spec: Declared, seed: int) -> None:
    for space, archs in built(spec):
        rng = np.random.default_rng(seed)
        drawn = space.sample(rng, 20)
        x = space.encode(drawn)
        assert {frozenset(a.genes.items()) for a in drawn} <= archs
        assert list(space.decode(x)) == list(drawn)
        assert drawn.ids == tuple(a.id for a in drawn)
        for arch, row in zip(drawn, x, strict=True):
            absent = {
                g.name: g.options[rng.integers(len(g.options))]
                for g in space.genes
                if g.name not in arch.genes
            }
            respelled = space.arch({**absent, **arch.genes})
            assert respelled == arch
            assert respelled.id == arch.id
            assert (space.encode([respelled])[0] == row).all()
            assert space.arch_from_json(arch.to_json()) == arch


@PROPERTIES
@given(declared(), st.integers(0, 2**31))
def test_any_choice_indices_decode_to_the_archs_of_the_twin(spec: Declared, seed: int) -> None:
    for space, archs in built(spec):
        rng = np.random.default_rng(seed)
        x = rng.integers(0, space.variable_sizes, size=(30, space.n_var))
        mended = space.repair(x)
        assert {frozenset(a.genes.items()) for a in space.decode(mended)} <= archs
        assert (space.repair(mended) == mended).all()
        assert (space.repair(x[::-1]) == mended[::-1]).all()


@PROPERTIES
@given(declared(), st.integers(0, 2**31))
def test_features_are_finite_and_tell_archs_apart(spec: Declared, seed: int) -> None:
    for space, _ in built(spec):
        drawn = space.sample(np.random.default_rng(seed), 30).unique()
        f = space.features(drawn)
        assert f.shape == (len(drawn), len(space.feature_names))
        assert len(set(space.feature_names)) == len(space.feature_names)
        assert ((f >= 0) & (f <= 1)).all()
        assert len(np.unique(f, axis=0)) == len(drawn)
        assert (space.features(drawn[:1]) == f[:1]).all()


@PROPERTIES
@given(declared(), st.integers(0, 2**31))
def test_neighbours_differ_by_one_variable(spec: Declared, seed: int) -> None:
    for space, archs in built(spec):
        arch = space.sample(np.random.default_rng(seed), 1)[0]
        x = space.encode([arch])[0]
        near = space.neighbours(arch)
        expected = set()
        for j, (size, ordered) in enumerate(
            zip(space.variable_sizes, space.variable_ordered, strict=True)
        ):
            for v in range(size):
                if v != x[j] and (not ordered or abs(v - x[j]) == 1):
                    genes = _respelled(space, x, j, v)
                    kept = frozenset(active_only(spec.declarations, genes).items())
                    expected |= {kept} & archs
        expected -= {frozenset(arch.genes.items())}
        assert {frozenset(a.genes.items()) for a in near} == expected
        assert len(near) == len(expected)


def _respelled(space: SearchSpace, x: np.ndarray, variable: int, value: int) -> dict[str, Any]:
    """Write out all genes of choice indices in which one variable is changed."""
    moved = x.copy()
    moved[variable] = value
    named = {v.name: v.options[i] for v, i in zip(space.variables, moved, strict=True)}
    tied = next((named[n] for n in named if n.endswith(".w")), None)
    genes = {g.name: g.options[0] for g in space.genes} | named
    if space.to_dict()["links"]:
        genes |= {n: tied for n in genes if n.endswith(".w") and tied is not None}
    return genes


def test_implies_is_not_only_tested_by_hand() -> None:
    space = SearchSpace(
        "s",
        [ordinal("a", [1, 2, 3]), ordinal("b", [1, 2]), choice("c", ["x", "y", "z"])],
        constraints=[implies({"a": [2, 3], "b": 1}, {"c": ["x", "z"]})],
    )
    allowed = [
        (a, b, c)
        for a, b, c in itertools.product([1, 2, 3], [1, 2], "xyz")
        if not (a in (2, 3) and b == 1) or c in "xz"
    ]
    listed = [(r["a"], r["b"], r["c"]) for chunk in space.enumerate() for r in chunk]
    assert sorted(listed) == sorted(allowed)
    assert space.size() == len(allowed)
