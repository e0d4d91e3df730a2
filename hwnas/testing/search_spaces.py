"""What every search space must keep, whoever wrote it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hwnas.errors import HwnasError
from hwnas.space import Arch, Archs, SearchSpace
from hwnas.testing.global_state import changes
from hwnas.testing.layers import every_arch_lowers, slots_sum_to_the_whole
from hwnas.testing.promises import Promise, broken

__all__ = ["SPACE_PROMISES", "SpaceTrial", "check_search_space", "space_trial"]

_SMALL = 20_000
_SEED = 20


@dataclass(frozen=True)
class SpaceTrial:
    """A space and architectures to try it on: its two ends and a random sample."""

    space: SearchSpace
    archs: Archs


def check_search_space(
    space: SearchSpace, *, n: int = 48, rng: np.random.Generator | None = None
) -> list[str]:
    """Return every promise that `space` breaks, one sentence each; empty where all are kept.

    Tried on the smallest and largest architecture and on `n` random ones drawn with `rng` (a fixed
    generator by default). Promises: encoding and decoding give the architecture back; one network
    has one spelling; a generator decides the sample; neighbours are valid; features are finite and
    depend on no other architecture; `enumerate` finds as many as `size` says; every architecture
    lowers, and its slots sum to the whole.
    """
    try:
        trial = space_trial(space, n=n, rng=rng)
    except Exception as error:
        return [f"sampling: raises {type(error).__name__}: {error}"]
    return broken(SPACE_PROMISES, trial)


def space_trial(
    space: SearchSpace, *, n: int = 48, rng: np.random.Generator | None = None
) -> SpaceTrial:
    """Draw the architectures to try."""
    drawn = space.sample(rng or np.random.default_rng(_SEED), n)
    return SpaceTrial(space, Archs.of(space, [space.smallest(), space.largest(), *drawn]))


def _is_described(trial: SpaceTrial) -> Iterator[str]:
    space = trial.space
    names = [gene.name for gene in space.genes]
    if not space.name.strip():
        yield "the space has no name"
    if len(set(names)) < len(names):
        yield "two genes have the same name"
    for gene in space.genes:
        if len(set(gene.options)) < len(gene.options) or not gene.options:
            yield f"gene {gene.name!r} has no options, or one of them twice: {gene.options}"
    json.dumps(space.to_dict())


def _round_trip(trial: SpaceTrial) -> Iterator[str]:
    space, archs = trial.space, trial.archs
    x = space.encode(archs)
    if x.dtype != np.int64 or x.shape != (len(archs), space.n_var):
        yield f"encode gives {x.dtype} {x.shape}; expected int64 {(len(archs), space.n_var)}"
        return
    if ((x < 0) | (x >= space.variable_sizes)).any():
        yield "encode gives a choice index outside variable_sizes"
        return
    back = space.decode(x)
    for before, after in zip(archs, back, strict=True):
        if before != after:
            yield f"decode(encode(a)) differs from a = {before.to_json()}: {after.to_json()}"
            return
    if not np.array_equal(space.encode(back), x):
        yield "equal architectures have different encodings"


def _one_spelling(trial: SpaceTrial) -> Iterator[str]:
    space = trial.space
    for arch, row, identity in zip(trial.archs, trial.archs.matrix, trial.archs.ids, strict=True):
        absent = {
            gene.name: gene.options[0]
            for gene, index in zip(space.genes, row, strict=True)
            if index < 0
        }
        spellings = {
            "its own genes": space.arch(arch.genes),
            "genes of dropped blocks added": space.arch({**arch.genes, **absent}),
            "its JSON": space.arch_from_json(arch.to_json()),
        }
        for how, other in spellings.items():
            if other != arch or other.id != identity or hash(other) != hash(arch):
                yield f"{arch.to_json()} spelled by {how} is another architecture or id"
                return


def _refuses_strangers(trial: SpaceTrial) -> Iterator[str]:
    space, arch = trial.space, trial.archs[0]
    name = next(iter(arch.genes))
    wrong = {
        "an unknown gene": {**arch.genes, "no such gene": 1},
        "an unknown option": {**arch.genes, name: "no such option"},
    }
    for what, genes in wrong.items():
        try:
            space.arch(genes)
        except HwnasError:
            continue
        yield f"{what} is accepted"
    try:
        space.encode([Arch("another space", arch.genes)])
    except HwnasError:
        return
    yield "an architecture of another space is accepted"


def _generator_decides(trial: SpaceTrial) -> Iterator[str]:
    space, n = trial.space, 32
    first, again = (space.sample(np.random.default_rng(7), n) for _ in range(2))
    if len(first) != n:
        yield f"sample(rng, {n}) gives {len(first)} architectures"
    if first.ids != again.ids:
        yield "the same generator gives another sample"
    if space.size() > 1000 and space.sample(np.random.default_rng(8), n).ids == first.ids:
        yield "another generator gives the same sample"
    yield from (
        f"sample changes {what}"
        for what in changes(lambda: space.sample(np.random.default_rng(7), n))
    )


def _neighbours_are_valid(trial: SpaceTrial) -> Iterator[str]:
    for arch in trial.archs[:6]:
        others = trial.space.neighbours(arch)
        if arch in list(others):
            yield f"{arch.id} is a neighbour of itself"
        if len(set(others.ids)) < len(others):
            yield f"a neighbour of {arch.id} is listed twice"
        for other in others:
            trial.space.arch(other.genes)


def _references_are_valid(trial: SpaceTrial) -> Iterator[str]:
    designs = trial.space.reference_designs()
    labels = [label for label, _ in designs]
    if len(set(labels)) < len(labels):
        yield f"two reference designs have one label: {labels}"
    trial.space.encode([arch for _, arch in designs])


def _features(trial: SpaceTrial) -> Iterator[str]:
    space, archs = trial.space, trial.archs
    found = space.features(archs)
    expected = (len(archs), len(space.feature_names))
    if found.shape != expected or found.dtype != np.float64:
        yield f"features are {found.dtype} {found.shape}; expected float64 {expected}"
        return
    if not np.isfinite(found).all():
        columns = np.flatnonzero(~np.isfinite(found).all(axis=0))
        yield f"not finite: {', '.join(space.feature_names[c] for c in columns)}"
    alone = np.concatenate([space.features([arch]) for arch in archs])
    if not np.array_equal(found, alone):
        yield "the features of an architecture depend on the others of the batch"
    rows = {arch.id: features.tobytes() for arch, features in zip(archs, found, strict=True)}
    if len(set(rows.values())) < len(rows):
        yield "two different architectures have the same features"


def _enumerates(trial: SpaceTrial) -> Iterator[str]:
    space = trial.space
    if space.size() < len(set(trial.archs.ids)):
        yield f"size() = {space.size()} is below the number of architectures drawn"
    if not space.size_is_exact or space.size() > _SMALL:
        return
    ids = [identity for chunk in space.enumerate(_SMALL) for identity in chunk.ids]
    if len(set(ids)) < len(ids):
        yield "enumerate lists an architecture twice"
    if len(ids) != space.size():
        yield f"enumerate gives {len(ids)} architectures, size() says {space.size()}"
    if not set(trial.archs.ids) <= set(ids):
        yield "sample draws an architecture that enumerate does not list"


def _lowers(trial: SpaceTrial) -> Iterator[str]:
    yield from every_arch_lowers(trial.space, trial.archs)


def _slots_sum(trial: SpaceTrial) -> Iterator[str]:
    yield from slots_sum_to_the_whole(trial.space, trial.archs)


SPACE_PROMISES: tuple[Promise[SpaceTrial], ...] = (
    Promise("description", _is_described),
    Promise("encoding round trip", _round_trip),
    Promise("one spelling", _one_spelling),
    Promise("refuses what is not in it", _refuses_strangers),
    Promise("sampling by a given generator", _generator_decides),
    Promise("neighbours", _neighbours_are_valid),
    Promise("reference designs", _references_are_valid),
    Promise("features", _features),
    Promise("enumeration", _enumerates),
    Promise("lowering", _lowers),
    Promise("slots", _slots_sum),
)
