"""Proxies judged on subnets whose quality has a closed form: figures, words, resume, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.calibration import kendall_tau, spearman_rho, top_k_overlap
from hwnas.calibration.partial import partial_spearman
from hwnas.cost import CostContext, build
from hwnas.cost.proxies import Counts
from hwnas.errors import ConfigError, CostError, DataError, Interrupted, PluginError, RunError
from hwnas.records import EvaluatedSubnet
from hwnas.space import SearchSpace, ordinal
from hwnas.workflows.study_proxies import ProxyOptions, ProxyRow, ProxyStudy, study_proxies
from hwnas.workflows.study_proxies.tables import markdown
from search_spaces.toy import toy
from tests.cost_models.toy_subnets import write_subnets

# What they evaluate is written down, so that a test can see what is evaluated twice.
PLUGINS = """
from pathlib import Path
import numpy as np
from cost_models.toy_quality import ToyQuality

def noise(archs):
    return np.array([int(a.id, 16) / 16**12 for a in archs])

class Noise:
    name, unit, direction, fidelity = "noise", "score", "max", "proxy"
    def __init__(self, context, *, seen=None, stop=None, scale=1.0):
        self._seen, self._stop, self._scale = seen, stop, scale
    def evaluate(self, archs):
        if self._seen is not None:
            with Path(self._seen).open("a") as file:
                file.write("".join(a.id + chr(10) for a in archs))
            if self._stop is not None and len(Path(self._seen).read_text().split()) > self._stop:
                raise KeyboardInterrupt
        return self._scale * noise(archs)

class Good:
    name, unit, direction, fidelity = "good", "score", "max", "proxy"
    def __init__(self, context):
        self._true = ToyQuality(context)
    def evaluate(self, archs):
        return np.exp(self._true.evaluate(archs) + 0.1 * noise(archs))

class Distortion(Good):
    name, direction = "distortion", "min"
    def evaluate(self, archs):
        return -super().evaluate(archs)

class Wrong(Good):
    name = "wrong"
    def evaluate(self, archs):
        return -super().evaluate(archs)

class Constant(Good):
    name = "constant"
    def evaluate(self, archs):
        return np.ones(len(archs))

class Broken(Good):
    name = "broken"
    def evaluate(self, archs):
        raise ZeroDivisionError("no gradient anywhere")
"""

Write = Callable[..., Path]
N = 90


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
    def make(n: int = N, name: str = "subnets.jsonl", **more: Any) -> Path:
        return write_subnets(tmp_path / name, space, n, **more)

    return make


def row_of(study: ProxyStudy, name: str) -> ProxyRow:
    return next(row for row in study.rows if row.name == name)


def options(*costs: str, **more: Any) -> ProxyOptions:
    return ProxyOptions(**{"costs": costs, "bootstrap": 40, **more})


def test_figures_are_those_of_the_definitions(
    space: SearchSpace, plugins: str, write: Write
) -> None:
    study = study_proxies(
        space, subnets=write(), options=options(f"{plugins}:Good", "bitops", bands=3)
    )
    archs, y = study.subnets.archs, study.subnets.iou
    context = CostContext(space)
    counts, bitops = Counts(context).of(archs), build("bitops", context).evaluate(archs)
    size = np.stack([counts["log params"], counts["log MACs"]], axis=1)
    scores = {"good": row_of(study, "good").values, "bitops": bitops, **counts}
    assert {row.name for row in study.rows} == set(scores)
    k = round(0.1 * len(y))
    for name, score in scores.items():
        judged = row_of(study, name).judgement
        assert judged.overall.kendall.value == pytest.approx(kendall_tau(y, score))
        assert judged.overall.spearman.value == pytest.approx(spearman_rho(y, score))
        assert judged.overall.precision.value == pytest.approx(top_k_overlap(y, score, k))
        best = y[np.argsort(-score, kind="stable")[:5]].max()
        assert judged.overall.best_rank.value == 1 + (y > best).sum()
        assert judged.overall.regret.value == pytest.approx(100 * (y.max() - best))
        partial = partial_spearman(y, score, size)
        assert judged.partial.value == (None if partial is None else pytest.approx(partial))
        taus = []
        for i, band in enumerate(np.array_split(np.argsort(bitops, kind="stable"), 3)):
            taus.append(kendall_tau(y[band], score[band]))
            assert judged.bands[i].kendall.value == pytest.approx(taus[-1])
        assert judged.in_bands.value == pytest.approx(np.mean([t for t in taus if t is not None]))
        for figure in (judged.overall.kendall, judged.overall.spearman):
            assert figure.lo is not None
            assert figure.hi is not None
            assert figure.value is not None
            assert figure.lo < figure.value < figure.hi
    assert row_of(study, "log MACs").judgement.against == {}
    assert row_of(study, "log MACs").judgement.partial.value is None


def test_verdicts_say_plainly_what_beats_what(
    space: SearchSpace, plugins: str, write: Write
) -> None:
    names = ("Good", "Distortion", "Noise", "Wrong", "Constant")
    costs = [f"{plugins}:{name}" for name in names]
    study = study_proxies(space, subnets=write(), options=options(*costs))
    said = {row.name: row.verdict for row in study.rows}
    assert said["good"].startswith("good beats log params, log MACs, depth")
    assert "at equal BitOPs it beats log params" in said["good"]
    assert said["distortion"] == said["good"].replace("good", "distortion")
    assert "noise beats none of the baselines" in said["noise"]
    assert "do not search with it" in said["noise"]
    assert "wrong orders the subnets the wrong way round" in said["wrong"]
    assert "constant gives every subnet the same value" in said["constant"]
    assert said["depth"] == ""
    table = markdown(study)
    assert "- noise beats none of the baselines" in table
    assert "| distortion | lower with it |" in table
    assert "| depth | a count |" in table


def test_equal_seeds_give_equal_studies(space: SearchSpace, plugins: str, write: Write) -> None:
    def run(seed: int) -> dict[str, Any]:
        study = study_proxies(
            space, subnets=write(), options=options(f"{plugins}:Good", seed=seed)
        ).to_json()
        for model in study["models"]:
            model["seconds"] = None
        return study

    assert run(1) == run(1)
    assert run(1)["models"] != run(2)["models"]
    json.dumps(run(1), allow_nan=False)


def test_a_study_that_was_interrupted_goes_on_where_it_was(
    space: SearchSpace, plugins: str, write: Write, tmp_path: Path
) -> None:
    path, out, seen = write(), tmp_path / "out", tmp_path / "seen.txt"
    spec = f"n={plugins}:Noise"

    def run(stop: int | None) -> ProxyStudy:
        # which file is written to and where to stop change no value: not part of the options
        plain = {"n": {"seen": str(seen)}}
        found = options(spec, options=plain)
        with pytest.MonkeyPatch.context() as patch:
            if stop is not None:
                patch.setattr("hwnas.workflows.study_memory.check_values", stopping(stop))
            return study_proxies(space, subnets=path, options=found, out=out, resume=True)

    def stopping(after: int) -> Callable[..., Any]:
        def check(model: object, archs: object, values: Any) -> Any:
            if len(seen.read_text().split()) > after:
                raise KeyboardInterrupt
            return values

        return check

    with pytest.raises(Interrupted, match="go on with --resume"):
        run(stop=10)
    begun = len(seen.read_text().split())
    assert 10 < begun < N
    study = run(stop=None)
    asked = seen.read_text().split()
    assert set(asked) == set(study.subnets.archs.ids)
    assert len(asked) <= len(study.subnets) + begun  # a batch that was cut off is asked again
    run(stop=None)
    assert len(seen.read_text().split()) == len(asked)
    assert {p.name for p in out.iterdir()} >= {
        "measurements.jsonl", "proxies.json", "proxies.md", "proxies.png", "proxies_scatter.png",
    }  # fmt: skip
    assert (out / "proxies.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads((out / "proxies.json").read_text())
    assert written == study.to_json()


def test_more_cost_models_and_subnets_may_be_added_but_not_mixed(
    space: SearchSpace, plugins: str, write: Write, tmp_path: Path
) -> None:
    out, spec = tmp_path / "out", f"{plugins}:Noise"
    study_proxies(space, subnets=write(60), options=options("bitops"), out=out)
    with pytest.raises(RunError, match="exists already"):
        study_proxies(space, subnets=write(60), options=options("bitops"), out=out)
    more = study_proxies(
        space, subnets=write(90), options=options("bitops", spec), out=out, resume=True
    )
    assert {"bitops", "noise"} <= {row.name for row in more.rows}
    changed = options(spec, options={spec: {"scale": 2.0}})
    with pytest.raises(RunError, match=r"(?s)values would be mixed.*scale"):
        study_proxies(space, subnets=write(90), options=changed, out=out, resume=True)
    other = options(f"two={spec}", options={"two": {"scale": 2.0}})
    study_proxies(space, subnets=write(90), options=other, out=out, resume=True)


def test_a_broken_plugin_hurts_only_itself(space: SearchSpace, plugins: str, write: Write) -> None:
    broken = f"{plugins}:Broken"
    study = study_proxies(space, subnets=write(), options=options(broken, "bitops"))
    assert study.failed == {"broken": "ZeroDivisionError: no gradient anywhere"}
    assert "broken" not in {row.name for row in study.rows}
    assert "## Left out" in markdown(study)
    with pytest.raises(CostError, match="no gradient anywhere"):
        study_proxies(space, subnets=write(), options=options(broken))


def test_who_has_learned_from_the_subnets_is_named(space: SearchSpace, write: Write) -> None:
    path = write()
    spec = "cost_models.calibrated_proxy:CalibratedProxy"
    own = options(f"c={spec}", "bitops", options={"c": {"archs": str(path)}})
    study = study_proxies(space, subnets=path, options=own)
    n = len(study.subnets)
    assert f"c has learned from {n} of these {n} subnets: of others it knows less" in study.notes
    lines = path.read_text().splitlines(keepends=True)
    known, others = path.with_name("known.jsonl"), path.with_name("others.jsonl")
    known.write_text("".join(lines[:40]))
    others.write_text("".join(lines[40:]))
    own = options(f"c={spec}", "bitops", options={"c": {"archs": str(known)}})
    study = study_proxies(space, subnets=others, options=own)
    assert not any("has learned" in note for note in study.notes)


def test_a_restricted_space_judges_its_own_subnets(space: SearchSpace, write: Write) -> None:
    small = space.restrict({"resolution": [128, 192]})
    study = study_proxies(small, subnets=write(), options=options("bitops"))
    whole = study_proxies(space, subnets=write(), options=options("bitops"))
    assert len(study.subnets) + study.subnets.outside == len(whole.subnets)
    assert set(study.subnets.archs.values("resolution")) == {128, 192}
    assert any("outside of the space: left out" in note for note in study.notes)


def test_a_space_without_layers_has_fewer_baselines_and_no_bands(
    plugins: str, tmp_path: Path
) -> None:
    plain = SearchSpace("plain", [ordinal("depth", range(1, 31), role="depth")])
    archs = [plain.arch({"depth": d}) for d in range(1, 31)]
    rows = [EvaluatedSubnet(arch_id=a.id, genes=a.genes, iou=int(a["depth"]) / 40) for a in archs]
    path = tmp_path / "plain.jsonl"
    path.write_text("".join(row.to_json() + "\n" for row in rows))
    study = study_proxies(plain, subnets=path, options=options(f"{plugins}:Noise"))
    assert [row.name for row in study.rows] == ["noise", "depth"]
    assert row_of(study, "depth").judgement.overall.kendall.value == 1
    assert row_of(study, "noise").judgement.bands == ()
    assert any("without log params, log MACs" in note for note in study.notes)
    assert "## Kendall tau within bands" not in markdown(study)


def test_mistakes_are_said_before_anything_is_evaluated(
    space: SearchSpace, plugins: str, write: Write, tmp_path: Path
) -> None:
    def refused(error: type[Exception], match: str, *costs: str, **more: Any) -> None:
        keys = ("subnets", "device")
        given = {k: more.pop(k) for k in keys if k in more}
        with pytest.raises(error, match=match):
            study_proxies(
                space, **{"subnets": write(), **given}, options=options(*costs, **more),
                out=tmp_path / "out",
            )  # fmt: skip

    refused(PluginError, "did you mean 'bitops'", "bitop")
    refused(ConfigError, "'bitops' is taken", "bitops", "bitops")
    refused(ConfigError, "'depth' is taken", "depth=bitops")
    refused(CostError, "needs a device and none was given", "roofline")
    refused(ConfigError, "needs --supernet FILE", "embedding_distortion")
    refused(ConfigError, "no cost model of that name; did you mean 'bitops'", "bitops",
            options={"bitop": {}})  # fmt: skip
    refused(ConfigError, "fewer than 10 a band; expected at most", "bitops", bands=20)
    refused(DataError, "expected at least 10", "bitops", subnets=write(6, "few.jsonl"))
    both = write(name="both.jsonl")
    both.write_text(both.read_text() + both.read_text().replace('"box"', '"point"'))
    refused(DataError, "choose one with --prompt", "bitops", subnets=both)
    refused(DataError, "no subnet was evaluated with none prompts", "bitops", prompt="none")
    other = tmp_path / "other.jsonl"
    other.write_text(EvaluatedSubnet(arch_id="x", genes={"a": 1}, iou=0.5).to_json() + "\n")
    refused(DataError, "none of 1 subnets is of the space toy", "bitops", subnets=other)
    moved = write(name="moved.jsonl")
    first, _, rest = moved.read_text().partition("\n")
    moved.write_text(json.dumps({**json.loads(first), "arch_id": "0" * 12}) + "\n" + rest)
    refused(DataError, "another version of it", "bitops", subnets=moved)
    refused(ConfigError, "no evaluated subnets ship for toy", "bitops", subnets=None)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match=r"--bands -1.*--bootstrap -1.*--top 0"):
        ProxyOptions(bands=-1, bootstrap=-1, top=0)


def test_both_prompts_may_lie_in_one_file(space: SearchSpace, write: Write) -> None:
    path = write()
    lines = path.read_text()
    path.write_text(lines + lines.replace('"box"', '"point"'))
    study = study_proxies(space, subnets=path, options=options("bitops", prompt="point"))
    assert study.subnets.prompt == "point"
    assert len(study.subnets) == lines.count("\n")


def test_without_draws_there_are_no_intervals(
    space: SearchSpace, plugins: str, write: Write
) -> None:
    study = study_proxies(
        space, subnets=write(), options=options(f"{plugins}:Good", bootstrap=0, bands=0)
    )
    judged = row_of(study, "good").judgement
    assert judged.overall.kendall.lo is None
    assert judged.in_bands.value is None
    assert row_of(study, "good").verdict.startswith("good beats")
    assert "[" not in markdown(study).split("## Order")[1].split("`in bands`")[0]
