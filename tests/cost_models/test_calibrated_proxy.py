"""Proxies brought to IoU: what the fits are, what is promised, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cost_models.calibrated_fits import Ridge, left_out
from cost_models.calibrated_proxy import CalibratedProxy
from hwnas.calibration import kendall_tau
from hwnas.cost import CostContext
from hwnas.errors import CostError, DataError
from hwnas.space import Archs, SearchSpace
from hwnas.testing import check_cost_model, check_cost_spec
from search_spaces.toy import toy
from tests.cost_models.toy_subnets import true_quality, write_subnets

Float = NDArray[np.float64]
Write = Callable[..., Path]

# A score on a scale of its own, a distortion, and one that knows nothing.
PLUGINS = """
import numpy as np
from cost_models.toy_quality import ToyQuality
from hwnas.registry import cost_models

def noise(archs):
    return np.array([int(a.id[::-1], 16) / 16**12 for a in archs]) - 0.5

class Proxy:
    name, unit, direction, fidelity = "proxy", "score", "max", "proxy"
    def __init__(self, context, *, noise=0.1):
        self._true, self._noise = ToyQuality(context), noise
    def evaluate(self, archs):
        return np.exp(6 * (self._true.evaluate(archs) + self._noise * noise(archs)))

class Distortion(Proxy):
    name, direction = "distortion", "min"
    def evaluate(self, archs):
        return 1 / super().evaluate(archs)

class Noise:
    name, unit, direction, fidelity = "noise", "score", "max", "proxy"
    def __init__(self, context):
        pass
    def evaluate(self, archs):
        return noise(archs)
"""


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return toy()


@pytest.fixture
def plugins(tmp_path: Path) -> str:
    path = tmp_path / "plugins.py"
    path.write_text(PLUGINS)
    return str(path)


@pytest.fixture
def write(tmp_path: Path, space: SearchSpace) -> Write:
    def make(n: int = 120, **more: Any) -> Path:
        return write_subnets(tmp_path / "subnets.jsonl", space, n, **{"split": "val", **more})

    return make


@pytest.mark.parametrize("name", ["Proxy", "Distortion"])
def test_a_proxy_gets_the_unit_and_an_interval_that_covers(
    name: str, space: SearchSpace, plugins: str, write: Write
) -> None:
    model = CalibratedProxy(CostContext(space), proxy=f"{plugins}:{name}", archs=str(write()))
    archs = space.sample(np.random.default_rng(99), 300)
    batch, y = model.estimate(archs), true_quality(space, archs)
    assert np.abs(batch.value - y).mean() < 0.05
    assert (kendall_tau(y, batch.value) or 0) > 0.75
    assert batch.lo is not None
    assert batch.hi is not None
    assert batch.level == 0.9
    assert 0.8 <= ((batch.lo <= y) & (y <= batch.hi)).mean() <= 0.99
    report = model.fit_report()
    assert report is not None
    assert report.fitted_on + report.held_out == 96  # `most`
    assert report.held_out == 24
    assert model.comparison.n == 96
    assert set(model.comparison.beaten) == {"log params", "log MACs", "depth"}


def test_the_interval_is_the_conformal_quantile_of_what_was_held_out(
    space: SearchSpace, plugins: str
) -> None:
    archs = space.sample(np.random.default_rng(3), 60).unique()
    y = true_quality(space, archs)
    model = CalibratedProxy(CostContext(space), proxy=f"{plugins}:Proxy").fit(archs, y)
    batch, report = model.estimate(archs), model.fit_report()
    assert report is not None
    assert model.learned_ is not None
    k = int(np.ceil(round((report.held_out + 1) * 0.9, 9)))
    # at least k of those held out lie inside, and one of them on the edge
    inside = np.abs(batch.value - y) <= model.learned_.half + 1e-12
    assert inside.sum() >= k
    assert np.isclose(np.abs(batch.value - y), model.learned_.half, atol=1e-12).any()


def test_few_subnets_are_all_fitted_on_and_left_out_one_by_one(
    space: SearchSpace, plugins: str
) -> None:
    archs = space.sample(np.random.default_rng(3), 20).unique()
    y = true_quality(space, archs)
    model = CalibratedProxy(CostContext(space), proxy=f"{plugins}:Proxy").fit(archs, y)
    report = model.fit_report()
    assert report is not None
    assert report.fitted_on == report.held_out == len(archs)
    assert "each by a fit without it" in str(report)
    assert model.estimate(archs).lo is not None
    with pytest.raises(CostError, match="expected at least 8"):
        model.fit(archs[:7], y[:7])


def test_what_beats_no_count_is_refused_in_words(
    space: SearchSpace, plugins: str, write: Write
) -> None:
    path = str(write())
    model = CalibratedProxy(CostContext(space), proxy=f"{plugins}:Noise", archs=path)
    with pytest.raises(CostError, match=r"beats none of log params, log MACs, depth.*Kendall tau"):
        model.evaluate([space.smallest()])
    assert model.fit_report() is not None  # the figures may be looked at all the same
    stubborn = CalibratedProxy(
        CostContext(space), proxy=f"{plugins}:Noise", archs=path, refuse=False
    )
    assert stubborn.evaluate([space.smallest()]).shape == (1,)
    counting = CalibratedProxy(CostContext(space), proxy="macs", archs=path)
    counting.evaluate([space.smallest()])  # better than depth alone
    assert "depth" in counting.comparison.beaten
    assert "log MACs" not in counting.comparison.beaten  # itself
    assert "not surely better than" in counting.note


def test_ridge_must_know_more_than_counts_together(
    space: SearchSpace, plugins: str, write: Write
) -> None:
    path, context = str(write()), CostContext(space)
    both = CalibratedProxy(
        context, proxy=[f"{plugins}:Proxy", "bitops"], fit="ridge", archs=path,
        options={f"{plugins}:Proxy": {"noise": 0.4}},
    )  # fmt: skip
    archs = space.sample(np.random.default_rng(5), 200)
    y = true_quality(space, archs)
    alone = CalibratedProxy(context, proxy="bitops", archs=path)
    assert (kendall_tau(y, both.evaluate(archs)) or 0) > (
        kendall_tau(y, alone.evaluate(archs)) or 0
    )
    assert both.comparison.rivals == ("counts together",)
    noise = CalibratedProxy(context, proxy=f"{plugins}:Noise", fit="ridge", archs=path)
    with pytest.raises(CostError, match="beats none of counts together"):
        noise.evaluate(archs)


def test_ridge_is_the_best_of_its_penalties_by_leaving_one_out() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([np.exp(rng.normal(size=20)), rng.normal(size=20), np.full(20, 3.0)])
    y = np.log(x[:, 0]) - x[:, 1] + rng.normal(0, 0.5, 20)
    fit = Ridge.of(x, y, [1, 1, 1])
    assert fit.logs.tolist() == [True, False, True]
    z = np.column_stack([np.log(x[:, 0]), x[:, 1]])
    scaled = (z - z.mean(0)) / z.std(0)

    def solved(rows: NDArray[np.bool_], penalty: float) -> Float:
        """Weights and constant, of which the constant is not penalized."""
        a = np.column_stack([scaled, np.ones(20)])[rows]
        return np.linalg.solve(a.T @ a + np.diag([penalty, penalty, 0]), a.T @ y[rows])

    def error(penalty: float) -> float:
        rest = [
            y[i] - np.append(scaled[i], 1.0) @ solved(np.arange(20) != i, penalty)
            for i in range(20)
        ]
        return float(np.square(rest).mean())

    best = min(np.logspace(-3, 4, 29), key=error)
    expected = np.column_stack([scaled, np.ones(20)]) @ solved(np.ones(20, np.bool_), best)
    assert fit.predict(x) == pytest.approx(expected, abs=1e-9)


def test_left_out_predictions_never_saw_their_row() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.uniform(size=(15, 1)), rng.uniform(size=15)
    before = left_out("isotonic", x, y, [1])
    for row in (0, 7, 14):
        changed = y.copy()
        changed[row] = 1e6
        assert left_out("isotonic", x, changed, [1])[row] == before[row]


@pytest.mark.parametrize("fit", ["isotonic", "ridge"])
def test_it_keeps_every_promise_of_a_cost_model(
    fit: Any, space: SearchSpace, plugins: str, write: Write, tmp_path: Path
) -> None:
    context = CostContext(space)
    model = CalibratedProxy(context, proxy=f"{plugins}:Proxy", fit=fit, archs=str(write()))
    assert check_cost_model(model, context) == []
    model.save(tmp_path)
    loaded = CalibratedProxy.load(tmp_path, context)
    archs = space.sample(np.random.default_rng(1), 20)
    here, there = model.estimate(archs), loaded.estimate(archs)
    assert here.lo is not None
    assert there.lo is not None
    assert (here.lo == there.lo).all()
    assert here.model_version == there.model_version
    assert loaded.comparison == model.comparison
    assert loaded.fit_report() == model.fit_report()
    content = json.loads((tmp_path / "calibrated.json").read_text())
    assert content["space"] == "toy"


def test_defaults_keep_their_promises_on_invented_values() -> None:
    assert check_cost_spec("cost_models.calibrated_proxy:CalibratedProxy", space="toy") == []


def test_given_values_are_learned_from_with_a_warning(
    space: SearchSpace, plugins: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A search hands over what it has, and must not end because that is little."""
    archs = space.sample(np.random.default_rng(3), 40).unique()
    model = CalibratedProxy(CostContext(space), proxy=f"{plugins}:Noise")
    model.fit(archs, true_quality(space, archs))
    assert "cannot stand for quality here: it beats none of" in caplog.text
    assert model.comparison.refusal is not None
    model.save(tmp_path)
    loaded = CalibratedProxy.load(tmp_path, CostContext(space))
    assert (loaded.evaluate(archs) == model.evaluate(archs)).all()
    caplog.clear()
    CalibratedProxy(CostContext(space), proxy=f"{plugins}:Proxy").fit(
        archs, true_quality(space, archs)
    )
    assert not caplog.text


def test_files_that_do_not_belong_are_refused(
    space: SearchSpace, write: Write, tmp_path: Path
) -> None:
    context = CostContext(space)
    with pytest.raises(CostError, match="no calibrated proxy there"):
        CalibratedProxy.load(tmp_path, context)
    CalibratedProxy(context, archs=str(write())).save(tmp_path)
    content = json.loads((tmp_path / "calibrated.json").read_text())
    (tmp_path / "calibrated.json").write_text(json.dumps({**content, "space": "other"}))
    with pytest.raises(CostError, match="for the space other, not for toy"):
        CalibratedProxy.load(tmp_path, context)
    with pytest.raises(CostError, match="learned from nothing yet"):
        CalibratedProxy(context).evaluate([space.smallest()])
    with pytest.raises(DataError, match="must not learn from it"):
        CalibratedProxy(context, archs=str(write(split="test"))).evaluate([space.smallest()])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"proxy": ["bitops", "macs"]}, "2 proxies; expected one, or several with fit=ridge"),
        ({"proxy": []}, "expected other cost models"),
        ({"proxy": "calibrated"}, "expected other cost models"),
        ({"fit": "spline", "most": 3}, "fit is 'spline'.*most is 3, expected 8 or more"),
        ({"prompt": "mask"}, "prompt is 'mask'"),
        ({"options": {"macs": {}}}, "options are of macs, which proxy does not name"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: dict[str, Any], words: str, space: SearchSpace
) -> None:
    with pytest.raises(CostError, match=words):
        CalibratedProxy(CostContext(space), **options)


def test_a_restricted_space_learns_from_subnets_of_the_whole(
    space: SearchSpace, plugins: str, write: Write
) -> None:
    path, proxy = str(write()), f"{plugins}:Proxy"
    small = space.freeze({"resolution": 96})
    archs: Sequence[Any] = small.sample(np.random.default_rng(0), 10)
    one = CalibratedProxy(CostContext(small), proxy=proxy, archs=path).evaluate(archs)
    two = CalibratedProxy(CostContext(space), proxy=proxy, archs=path).evaluate(list(archs))
    assert (one == two).all()


def test_values_beyond_those_fitted_on_are_flagged_and_wider(
    space: SearchSpace, plugins: str
) -> None:
    low = space.freeze({"resolution": 64}).sample(np.random.default_rng(0), 60).unique()
    context = CostContext(space)
    model = CalibratedProxy(context, proxy=f"{plugins}:Proxy").fit(
        list(low), true_quality(space, Archs.of(space, list(low)))
    )
    near, far = model.estimate([low[0]]), model.estimate([space.largest()])
    assert far.extrapolating[0]
    assert not near.extrapolating[0]
    assert far.hi is not None
    assert near.hi is not None
    assert far.hi[0] - far.value[0] > near.hi[0] - near.value[0]
    assert model.needs == ()
    assert model.input_files == ()
