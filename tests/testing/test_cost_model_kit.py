"""The kit passes a correct cost model and catches one that breaks each promise."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hwnas.cost import CostBatch, CostContext, CostModel, Direction
from hwnas.errors import CostError
from hwnas.space import Arch, Archs, SearchSpace, choice, ordinal, repeat
from hwnas.testing import check_cost_model
from hwnas.testing.cost_models import COST_PROMISES
from hwnas.testing.pytest_kits import CostModelKit

Float = NDArray[np.float64]

SPACE = SearchSpace(
    "kit",
    [
        ordinal("width", (8, 16, 32), role="width"),
        choice("operator", ("conv", "dwconv")),
        ordinal("depth", (1, 2, 3), role="depth"),
        repeat("blocks", 3, [ordinal("bits", (2, 4, 8), role="bits")], depth="depth"),
    ],
)


CONTEXT = CostContext(space=SPACE, supernet=lambda: cast(Any, torch.nn.Linear(2, 2)))


class Good:
    """Adds the index of every option plus one; absent genes add nothing."""

    name, unit = "good", "ms"
    direction: Direction = "min"
    monotone_in_bits = True

    def evaluate(self, archs: Sequence[Arch]) -> Any:
        return (Archs.of(SPACE, archs).matrix + 1).sum(axis=1).astype(np.float64)


class Full(Good):
    """Everything optional as well: interval, parts, fitting."""

    def __init__(self, scale: float = 1.5) -> None:
        self.scale_ = scale

    def evaluate(self, archs: Sequence[Arch]) -> Any:
        return self.scale_ * super().evaluate(archs)

    def estimate(self, archs: Sequence[Arch]) -> Any:
        value = self.evaluate(archs)
        inside = np.zeros(value.shape, np.bool_)
        return CostBatch(value, 0.9 * value, 1.1 * value, 0.9, inside, "predicted", "ms", "full@1")

    def breakdown(self, arch: Arch) -> dict[str, float]:
        value = float(self.evaluate([arch])[0])
        return {"blocks": 0.25 * value, "rest": 0.75 * value}

    def fit(self, archs: Sequence[Arch], values: Float) -> Full:
        self.scale_ = float(np.mean(values) / np.mean(super().evaluate(archs)))
        return self

    def save(self, folder: Path) -> None:
        (folder / "model.json").write_text(json.dumps(self.scale_))

    @classmethod
    def load(cls, folder: Path, context: CostContext) -> Full:
        return cls(json.loads((folder / "model.json").read_text()))


@pytest.mark.parametrize("model", [Good(), Full()], ids=["required", "optional"])
def test_correct_model_keeps_every_promise(model: CostModel) -> None:
    assert check_cost_model(model, CostContext(space=SPACE)) == []


class NoUnit(Good):
    unit = " "


class NoDirection(Good):
    direction = "down"  # type: ignore[assignment]


class ReturnsList(Good):
    def evaluate(self, archs: Sequence[Arch]) -> Any:
        return list(super().evaluate(archs))


class Column(Good):
    def evaluate(self, archs: Sequence[Arch]) -> Any:
        return super().evaluate(archs)[:, None]


class Single(Good):
    def evaluate(self, archs: Sequence[Arch]) -> Any:
        return super().evaluate(archs).astype(np.float32)


class Unknown(Good):
    def evaluate(self, archs: Sequence[Arch]) -> Any:
        values = super().evaluate(archs)
        values[values == values.max(initial=0.0)] = np.nan
        return values


class Raises(Good):
    def evaluate(self, archs: Sequence[Arch]) -> Any:
        raise CostError("no table")


class EmptyFails(Good):
    def evaluate(self, archs: Sequence[Arch]) -> Any:
        values = super().evaluate(archs)
        return values + 0 * values.max()


class OnlyArchs(Good):
    def evaluate(self, archs: Sequence[Arch]) -> Any:
        values = super().evaluate(archs)
        return values if isinstance(archs, Archs) else values + 1


class Normalized(Good):
    def evaluate(self, archs: Sequence[Arch]) -> Any:
        values = super().evaluate(archs)
        return values / values.sum() if len(values) else values


class Positional(Good):
    def evaluate(self, archs: Sequence[Arch]) -> Any:
        values = super().evaluate(archs)
        return values + 1e-3 * np.arange(len(values)) / 7


class Noisy(Good):
    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def evaluate(self, archs: Sequence[Arch]) -> Any:
        values = super().evaluate(archs)
        return values * (1 + 1e-12 * self.rng.random(len(values)))


class LendsItsCache(Good):
    def __init__(self) -> None:
        self.cache: dict[tuple[str, ...], Float] = {}

    def evaluate(self, archs: Sequence[Arch]) -> Any:
        key = tuple(arch.id for arch in archs)
        return self.cache.setdefault(key, super().evaluate(archs))


class SortsItsArgument(Good):
    def evaluate(self, archs: Sequence[Arch]) -> Any:
        values = super().evaluate(archs)
        if isinstance(archs, list):
            archs.sort(key=lambda arch: arch.id)
        return values


class SeedsNumpy(Good):
    def evaluate(self, archs: Sequence[Arch]) -> Any:
        np.random.seed(0)  # noqa: NPY002 - the mistake that the kit looks for
        return super().evaluate(archs)


class DrawsFromPython(Good):
    def evaluate(self, archs: Sequence[Arch]) -> Any:
        random.random()
        return super().evaluate(archs)


class SetsEnvironment(Good):
    def evaluate(self, archs: Sequence[Arch]) -> Any:
        os.environ["HWNAS_KIT_TEST"] = str(len(os.environ) + random.SystemRandom().random())
        return super().evaluate(archs)


class TrainsTheSupernet(Good):
    def evaluate(self, archs: Sequence[Arch]) -> Any:
        linear = CONTEXT.require("supernet", by=self.name)
        linear.bias.data += 1.0
        return super().evaluate(archs)


class PricesAnything(Good):
    def evaluate(self, archs: Sequence[Arch]) -> Any:
        return np.array([float(len(arch.genes)) for arch in archs], dtype=np.float64)


class KeyErrors(Good):
    def evaluate(self, archs: Sequence[Arch]) -> Any:
        table = {"conv": 1.0, "dwconv": 2.0}
        return np.array([table[str(arch["operator"])] for arch in archs], dtype=np.float64)


class OtherEstimate(Full):
    def estimate(self, archs: Sequence[Arch]) -> Any:
        value = self.evaluate(archs) + 1
        return CostBatch.exact(value, unit="ms", model_version="1")


class OtherUnit(Full):
    def estimate(self, archs: Sequence[Arch]) -> Any:
        return CostBatch.exact(self.evaluate(archs), unit="s", model_version="1")


class InfiniteInterval(Full):
    def estimate(self, archs: Sequence[Arch]) -> Any:
        value = self.evaluate(archs)
        inside = np.zeros(value.shape, np.bool_)
        return CostBatch(value, value, value * np.inf, 0.9, inside, "predicted", "ms", "1")


class PartsMissing(Full):
    def breakdown(self, arch: Arch) -> dict[str, float]:
        return {"blocks": super().breakdown(arch)["blocks"]}


class FallsWithBits(Good):
    def evaluate(self, archs: Sequence[Arch]) -> Any:
        return -super().evaluate(archs)


class Forgets(Full):
    @classmethod
    def load(cls, folder: Path, context: CostContext) -> Full:
        return cls(2.0)


class Pickles(Full):
    def save(self, folder: Path) -> None:
        super().save(folder)
        (folder / "model.pkl").write_bytes(b"")


BROKEN = [
    (NoUnit, "declaration: unit"),
    (NoDirection, "declaration: direction is 'down'"),
    (ReturnsList, "answer: evaluate returns list"),
    (Column, "answer: evaluate returns float64 (14, 1)"),
    (Single, "answer: evaluate returns float32"),
    (Unknown, "expected a finite number"),
    (Raises, "evaluate: raises CostError: no table"),
    (EmptyFails, "empty batch: raises ValueError"),
    (OnlyArchs, "plain list: "),
    (Normalized, "batch equals singles: "),
    (Positional, "any order: "),
    (Positional, "equal architectures cost the same: "),
    (Noisy, "twice the same: "),
    (LendsItsCache, "answers are the caller's own: "),
    (SortsItsArgument, "arguments untouched: "),
    (SeedsNumpy, "global state untouched: evaluate changes the global random state of NumPy"),
    (DrawsFromPython, "global state untouched: evaluate changes the random state of Python"),
    (SetsEnvironment, "global state untouched: evaluate changes the environment variables"),
    (
        TrainsTheSupernet,
        "weights untouched: evaluate changes 1 tensors of the supernet, first bias",
    ),
    (PricesAnything, "strangers refused: an architecture of another space costs"),
    (KeyErrors, "strangers refused: an architecture without"),
    (OtherEstimate, "interval: estimate(archs).value differs"),
    (OtherUnit, "interval: estimate is in 's', the model in 'ms'"),
    (InfiniteInterval, "interval: hi must be finite"),
    (PartsMissing, "parts add up: "),
    (FallsWithBits, "monotone in bits: blocks."),
    (Forgets, "save and load: the loaded model gives other values"),
    (Pickles, "save and load: save writes model.pkl"),
]


@pytest.mark.parametrize(("model", "breach"), BROKEN, ids=lambda x: getattr(x, "__name__", None))
def test_broken_promise_is_caught(
    model: type[Good], breach: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_KIT_TEST", "restored afterwards")
    found = check_cost_model(model(), CONTEXT)
    assert [line for line in found if breach in line], found


def test_every_promise_has_a_model_that_breaks_it() -> None:
    caught = {breach.partition(":")[0] for _, breach in BROKEN}
    assert {promise.name for promise in COST_PROMISES} <= caught


def test_kit_leaves_the_global_state_alone() -> None:
    def state() -> object:
        kind, keys, *rest = np.random.get_state()  # noqa: NPY002
        return random.getstate(), kind, np.asarray(keys).tolist(), rest

    before = state()
    check_cost_model(Full(), CostContext(space=SPACE))
    assert state() == before


class ChangesOnce(Good):
    """Does the harm at the first call only, as a lazy import would."""

    def __init__(self) -> None:
        self.done = False

    def evaluate(self, archs: Sequence[Arch]) -> Any:
        if not self.done:
            np.random.random()  # noqa: NPY002
        self.done = True
        return super().evaluate(archs)


def test_first_call_is_watched_too() -> None:
    found = check_cost_model(ChangesOnce(), CostContext(space=SPACE))
    assert found == ["global state untouched: evaluate changes the global random state of NumPy"]


def test_tolerance_is_for_batches_and_not_for_asking_twice() -> None:
    context = CostContext(space=SPACE)
    assert check_cost_model(Noisy(), context, rtol=1.0)
    assert any("batch" in line for line in check_cost_model(Normalized(), context, rtol=1e-3))


class TestKitAsPytestClass(CostModelKit):
    @pytest.fixture
    def context(self) -> CostContext:
        return CostContext(space=SPACE)

    @pytest.fixture
    def model(self) -> CostModel:
        return Full()


def test_a_gene_with_one_option_may_be_left_unsaid() -> None:
    space = SPACE.freeze({"width": 8})

    class Own(Good):
        def evaluate(self, archs: Sequence[Arch]) -> Any:
            return (Archs.of(space, archs).matrix + 1).sum(axis=1).astype(np.float64)

    assert check_cost_model(Own(), CostContext(space=space)) == []
