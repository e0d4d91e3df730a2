"""Transfer of latency tables: structure with a known truth, saving, and what it cannot know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cost_models.latency_transfer import SourceTables, TransferFit, correlations
from cost_models.latency_xgb import LatencyXGB
from hwnas.calibration.accuracy import Accuracy
from hwnas.cost import CostContext
from hwnas.errors import CostError
from hwnas.space import Archs, SearchSpace, choice, ordinal, repeat
from hwnas.testing import check_cost_model

BLOCKS = 6


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    """Twenty free coefficients, as many as a small public table has."""
    block = [choice("op", ("conv", "pool", "wide", "skip"))]
    return SearchSpace(
        "cells", [ordinal("size", (1, 2, 3), role="resolution"), repeat("b", BLOCKS, block)]
    )


@pytest.fixture(scope="module")
def archs(space: SearchSpace) -> Archs:
    return space.sample(np.random.default_rng(0), 400).unique()


OPS = ("conv", "pool", "wide", "skip")
COMPUTE, MEMORY = np.random.default_rng(7).uniform(0.2, 8.0, (2, BLOCKS, len(OPS)))


def times(archs, compute: float, memory: float) -> np.ndarray:
    """A device has a price for arithmetic and one for traffic; all are mixtures of the two."""
    table = compute * COMPUTE + memory * MEMORY
    return np.array([1.0 + a["size"] + added(a, table) for a in archs])


def added(arch, table: np.ndarray) -> float:
    return sum(float(table[i, OPS.index(arch[f"b.{i}.op"])]) for i in range(BLOCKS))


def noisy(y: np.ndarray, sd: float = 0.01, seed: int = 0) -> np.ndarray:
    return y * np.exp(np.random.default_rng(seed).normal(0, sd, len(y)))


@pytest.fixture(scope="module")
def sources(space: SearchSpace, archs: Archs) -> dict[str, LatencyXGB]:
    prices = {"phone": (1.0, 0.2), "board": (0.3, 1.0), "server": (0.1, 0.05)}
    return {
        name: LatencyXGB(CostContext(space), only=("additive table of genes",)).fit(
            archs[:200], noisy(times(archs[:200], *price), seed=i)
        )
        for i, (name, price) in enumerate(prices.items())
    }


def fitted(space, sources, archs, y) -> LatencyXGB:
    return LatencyXGB(CostContext(space), sources=sources).fit(archs, y)


def test_few_shots_of_a_scaled_source_find_it(space, sources, archs) -> None:
    true = 0.5 + 3.0 * times(archs, 0.3, 1.0)
    model = fitted(space, sources, archs[200:208], noisy(true[200:208]))
    assert list(model.tried()) == ["board, scaled"]
    rest = Accuracy.of(true[208:], model.evaluate(archs[208:]))
    assert rest.mape < 2
    assert rest.kendall_tau is not None
    assert rest.kendall_tau > 0.9
    batch = model.estimate(archs[208:])
    assert batch.lo is not None
    assert batch.hi is not None
    assert ((batch.lo <= true[208:]) & (true[208:] <= batch.hi)).mean() > 0.9


def test_a_mixture_of_sources_needs_them_all(space, sources, archs) -> None:
    true = times(archs, 0.6, 0.6)
    model = fitted(space, sources, archs[200:220], noisy(true[200:220]))
    alone, combined = model.tried().values()
    assert combined < 0.5 * alone
    own = Accuracy.of(true[220:], model.evaluate(archs[220:])).mape
    assert own < 1.5
    scratch = LatencyXGB(CostContext(space)).fit(archs[200:220], noisy(true[200:220]))
    assert Accuracy.of(true[220:], scratch.evaluate(archs[220:])).mape > 2 * own


def test_left_out_ones_are_really_left_out(space, sources, archs) -> None:
    columns = LatencyXGB(CostContext(space), sources=sources)._bases.columns[
        "tables of other devices"
    ]
    x, y = columns.matrix(archs[:14]), noisy(times(archs[:14], 0.6, 0.6), 0.1)
    tables = SourceTables.of(columns.matrix(archs[100:])[:, : len(sources)])
    whole = TransferFit.of(x, y, tables)
    # 13 of them are still combined in as many ways as 14
    without = TransferFit.of(np.delete(x, 3, 0), np.delete(y, 3), tables)
    assert without.ways == whole.ways == 3
    assert whole.left_out[3] == pytest.approx(without.predict(x[[3]])[0], rel=1e-9)


def test_correlation_of_a_constant_table_is_nothing() -> None:
    tables = np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 5.0]])
    assert correlations(tables, np.array([2.0, 3.0, 5.0])) == pytest.approx([0.0, 1.0])


def test_devices_of_another_kind_do_not_help(space, sources, archs) -> None:
    """What the order depends on is in none of the sources."""
    odd = np.random.default_rng(5).uniform(0.2, 8.0, (BLOCKS, len(OPS)))
    true = np.array([1.0 + added(a, odd) for a in archs])
    model = fitted(space, sources, archs[200:216], noisy(true[200:216]))
    tau = Accuracy.of(*model.cross_validated()).kendall_tau
    assert tau is not None
    assert tau < 0.8


def test_it_keeps_every_promise_and_needs_nothing_but_its_folder(
    space, sources, archs, tmp_path: Path
) -> None:
    context = CostContext(space)
    model = fitted(space, sources, archs[200:220], noisy(times(archs[200:220], 0.6, 0.6)))
    assert check_cost_model(model, context, n=5) == []
    model.save(tmp_path)
    loaded = LatencyXGB.load(tmp_path, context)
    before, after = model.estimate(archs), loaded.estimate(archs)
    assert after.value.tolist() == before.value.tolist()
    assert after.extrapolating.tolist() == before.extrapolating.tolist()
    assert list(loaded.sources) == ["phone", "board", "server"]
    model.save(tmp_path)
    assert len(list(tmp_path.glob("source-*"))) == 3
    next(tmp_path.glob("source-1-*/model.json")).write_text("{}")
    with pytest.raises(CostError, match="damaged"):
        LatencyXGB.load(tmp_path, context)


def test_four_measurements_are_too_few(space, sources, archs) -> None:
    with pytest.raises(CostError, match="at least 5"):
        fitted(space, sources, archs[:4], times(archs[:4], 1.0, 1.0))
