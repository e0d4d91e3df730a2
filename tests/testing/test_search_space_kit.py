"""The kit passes correct spaces and catches one that breaks each promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from hwnas.space import Arch, Archs, SearchSpace, Slot, choice, link, ordinal, repeat
from hwnas.space.declarations import Declaration
from hwnas.testing import check_search_space
from hwnas.testing.pytest_kits import SearchSpaceKit
from hwnas.testing.search_spaces import SPACE_PROMISES
from hwnas.workload import LayerSpec, Workload

DECLARATIONS: list[Declaration] = [
    ordinal("width", (8, 16, 32), role="width"),
    choice("operator", ("conv", "dwconv")),
    ordinal("depth", (1, 2, 3), role="depth"),
    repeat("blocks", 3, [ordinal("bits", (2, 4, 8), role="bits")], depth="depth"),
]


def block(index: int, width: int, bits: int) -> tuple[LayerSpec, ...]:
    macs = width * width
    return (
        LayerSpec(f"blocks.{index}", "linear", macs, macs, width, width, w_bits=bits, a_bits=bits),
    )


def slots(first: Callable[..., Any] = block) -> list[Slot]:
    return [
        Slot(
            f"blocks.{i}",
            ("width", f"blocks.{i}.bits"),
            lambda width, bits, i=i: (first if i == 0 else block)(i, width, bits),
            shared="block",
        )
        for i in range(3)
    ]


def lower(arch: Arch) -> Workload:
    bits = [arch.get(f"blocks.{i}.bits") for i in range(3)]
    layers = [block(i, int(arch["width"]), int(b)) for i, b in enumerate(bits) if b is not None]
    return Workload(tuple(layer for part in layers for layer in part))


def space(kind: type[SearchSpace] = SearchSpace, **given: Any) -> SearchSpace:
    return kind("kit", DECLARATIONS, **given)


CORRECT = {
    "choices only": space(),
    "linked": SearchSpace("linked", DECLARATIONS, links=[link("blocks.*.bits")]),
    "frozen": space().freeze({"width": 16}),
    "slots": space(slots=slots()),
    "lower": space(lower=lower),
    "slots and lower": space(slots=slots(), lower=lower),
}


@pytest.mark.parametrize("name", CORRECT)
def test_correct_space_keeps_every_promise(name: str) -> None:
    assert check_search_space(CORRECT[name]) == []


class UnreadableRecord(SearchSpace):
    def to_dict(self) -> dict[str, Any]:
        return {"size": {1, 2}}


class LossyDecode(SearchSpace):
    def decode(self, x: Any) -> Archs:
        return super().decode(np.zeros_like(np.asarray(x)))


class TwoSpellings(SearchSpace):
    def arch(self, genes: Mapping[str, object]) -> Arch:
        found = super().arch(genes)
        return found if len(genes) == len(found.genes) else self.smallest()


class AcceptsAnything(SearchSpace):
    def arch(self, genes: Mapping[str, object]) -> Arch:
        known = {k: v for k, v in genes.items() if k in {gene.name for gene in self.genes}}
        return super().arch(known)


class GlobalSample(SearchSpace):
    def sample(self, rng: np.random.Generator, n: int) -> Archs:
        seed = np.random.randint(2**31)  # noqa: NPY002 - the mistake that the kit looks for
        return super().sample(np.random.default_rng(seed), n)


class OwnNeighbour(SearchSpace):
    def neighbours(self, arch: Arch) -> Archs:
        return Archs.of(self, [*super().neighbours(arch), arch])


class TwinReferences(SearchSpace):
    def reference_designs(self) -> list[tuple[str, Arch]]:
        return [("largest", self.largest()), ("largest", self.smallest())]


class RelativeFeatures(SearchSpace):
    def features(self, archs: Sequence[Arch]) -> Any:
        found = super().features(archs)
        return found - found.mean(axis=0)


class InfiniteFeatures(SearchSpace):
    def features(self, archs: Sequence[Arch]) -> Any:
        found = super().features(archs)
        return np.where(found > 0, np.inf, found)


class BlindFeatures(SearchSpace):
    def features(self, archs: Sequence[Arch]) -> Any:
        return 0 * super().features(archs)


class MissesOne(SearchSpace):
    def enumerate(self, limit: int = 1_000_000) -> Iterator[Archs]:
        chunks = list(super().enumerate(limit))
        return iter([*chunks[:-1], chunks[-1][:-1]])


def restless(calls: list[int]) -> Callable[[Arch], Workload]:
    def lower_differently(arch: Arch) -> Workload:
        calls.append(1)
        return Workload((LayerSpec("only", "linear", len(calls), 1, 1, 1),))

    return lower_differently


def twice_the_work(index: int, width: int, bits: int) -> tuple[LayerSpec, ...]:
    (layer,) = block(index, width, bits)
    return (LayerSpec(f"{layer.name}.more", "linear", 2 * layer.macs, 1, 1, 1),)


def same_name(arch: Arch) -> Workload:
    return Workload(block(0, 8, 8) * 2)


BROKEN: list[tuple[Callable[[], SearchSpace], str]] = [
    (lambda: space(UnreadableRecord), "description: raises TypeError"),
    (lambda: space(LossyDecode), "encoding round trip: decode(encode(a)) differs"),
    (lambda: space(TwoSpellings), "one spelling: "),
    (lambda: space(AcceptsAnything), "refuses what is not in it: an unknown gene is accepted"),
    (lambda: space(GlobalSample), "sampling by a given generator: the same generator gives"),
    (lambda: space(GlobalSample), "sampling by a given generator: sample changes the global"),
    (lambda: space(OwnNeighbour), "neighbours: "),
    (lambda: space(TwinReferences), "reference designs: two reference designs have one label"),
    (lambda: space(RelativeFeatures), "features: the features of an architecture depend"),
    (lambda: space(InfiniteFeatures), "features: not finite: "),
    (lambda: space(BlindFeatures), "features: two different architectures"),
    (lambda: space(MissesOne), "enumeration: enumerate gives"),
    (lambda: space(lower=restless([])), "lowers to other layers the second time"),
    (lambda: space(lower=same_name), "has more than one layer called blocks.0"),
    (lambda: space(slots=slots(twice_the_work)), "slots: slot 'blocks."),
    (lambda: space(slots=slots(), lower=same_name), "slots: the slots of"),
]


@pytest.mark.parametrize(("make", "breach"), BROKEN, ids=[breach for _, breach in BROKEN])
def test_broken_promise_is_caught(make: Callable[[], SearchSpace], breach: str) -> None:
    state = np.random.get_state()  # noqa: NPY002
    try:
        found = check_search_space(make())
    finally:
        np.random.set_state(state)  # noqa: NPY002
    assert [line for line in found if breach in line], found


def test_every_promise_has_a_space_that_breaks_it() -> None:
    found = [line for make, _ in BROKEN for line in check_search_space(make(), n=8)]
    assert {promise.name for promise in SPACE_PROMISES} <= {x.partition(":")[0] for x in found}


class TestKitAsPytestClass(SearchSpaceKit):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return CORRECT["slots and lower"]
