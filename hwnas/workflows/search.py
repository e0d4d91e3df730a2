"""The main job: search a space, score the front once more, write the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from hwnas.config import SearchConfig, make_config
from hwnas.cost import CostModel
from hwnas.device import DeviceProfile
from hwnas.errors import ConfigError, DeviceError, Interrupted
from hwnas.records import RunFolder, Verification
from hwnas.records.exact import ExactStart
from hwnas.search import (
    ExactSearch,
    ParetoFront,
    Progress,
    SearchResult,
    run_exhaustive,
    run_nsga2,
    run_random,
)
from hwnas.space import Archs, SearchSpace
from hwnas.workflows.exact import (
    begin_exactly,
    compare_with_exact,
    exact_archs,
    prepare_exact,
)
from hwnas.workflows.inputs import input_hashes
from hwnas.workflows.judging import Verdict, judge
from hwnas.workflows.preflight import check_weights_and_data
from hwnas.workflows.report import write_run_report
from hwnas.workflows.rescoring import Rescored, rescore
from hwnas.workflows.resolve import Resolved, evaluations_of, resolve
from hwnas.workflows.sensitivity.kept import keep_matrices
from hwnas.workflows.watch import Silent, Watch
from hwnas.workflows.workplace import make_executor

__all__ = ["Outcome", "resume_search", "run_search", "search"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a search leaves: the result, the front scored again, and where it lies on disk.

    `judged` says of each predicted column how well it does on values that it never saw, `verified`
    what the device said of the best designs, `exact` how far the front is from the exact one; the
    last two where they were asked for.
    """

    resolved: Resolved
    result: SearchResult
    rescored: Rescored | None
    folder: Path | None
    reports: tuple[Path, ...]
    judged: Mapping[str, Verdict] = field(default_factory=dict)
    verified: Verification | None = None
    exact: ExactStart | None = None


def search(
    space: str | SearchSpace = "sam-vit-t",
    *,
    objectives: Iterable[str | type | CostModel] = (),
    limits: Iterable[str] = (),
    device: str | DeviceProfile | None = None,
    costs: Iterable[str | type | CostModel] = (),
    out: str | Path | None = None,
    watch: Watch | None = None,
    **settings: object,
) -> ParetoFront:
    """Search the Pareto front of a space; the Python form of `hwnas search`.

    Args:
        space: name, file or module path, or a space.
        objectives: cost models to optimize: names, specs, classes (called with the context) or
            finished models. The space's own by default.
        limits: `"latency<=20"`; a limit holds against the pessimistic end of an interval.
        device: name, `id:mode`, path, or a profile.
        costs: further cost models, for limits, or as objectives where `objectives` is empty.
        out: run folder to write, which must not exist; nothing is written without it.
        watch: told where the search stands.
        settings: every other key of `SearchConfig`, such as `seed`, `max_evaluations`, `data`.

    Raises:
        ConfigError: something is named wrongly; lists every problem.
        InfeasibleError: no design meets the limits; names the best value seen.
        CostError: too many designs could not be priced.
        RunError: the folder exists or cannot be written.
    """
    plugins: dict[str, object] = {}
    content = {
        **settings,
        "space": space.name if isinstance(space, SearchSpace) else space,
        "device": device.key if isinstance(device, DeviceProfile) else device,
        "limits": list(limits),
        "objectives": [_named(model, plugins) for model in objectives],
        "costs": [_named(model, plugins) for model in costs],
    }
    live = resolve(
        make_config("search()", content),
        space=space if isinstance(space, SearchSpace) else None,
        device=device if isinstance(device, DeviceProfile) else None,
        plugins=plugins,
    )
    if live.config.verify and out is None:
        raise ConfigError(f"verify={live.config.verify}: its result is a file; pass out=FOLDER")
    return _run(live, None if out is None else Path(out), watch or Silent()).result.front


def run_search(
    config: SearchConfig,
    *,
    out: Path | None = None,
    watch: Watch | None = None,
    command: str | None = None,
) -> Outcome:
    """Run a configured search in a new run folder.

    Args:
        config: what to search; written into the folder.
        out: must not exist; `runs/DATE-TIME-SPACE` by default.
        watch: told where the search stands.
        command: recorded as what the user typed.
    """
    live = resolve(config)
    return _run(live, out or _default_folder(live.space.name), watch or Silent(), command=command)


def resume_search(path: Path, *, watch: Watch | None = None) -> Outcome:
    """Continue a run; its result is that of the undisturbed run.

    Raises:
        RunError: there is no run there, or its configuration or inputs have changed.
    """
    with RunFolder.open(path) as folder:
        live = resolve(SearchConfig.model_validate(folder.config))
        folder.check_unchanged(input_hashes(live))
        return _run_in(folder, live, watch or Silent())


def _run(live: Resolved, out: Path | None, watch: Watch, *, command: str | None = None) -> Outcome:
    check_weights_and_data(live)
    if live.config.verify:
        from hwnas.workflows.verify import check_verifiable

        check_verifiable(live)
    prepared = prepare_exact(live)
    if out is None:
        return _run_in(None, live, watch, prepared)
    with RunFolder.create(
        out,
        config=live.config.model_dump(mode="json"),
        command=command or f"hwnas search --config {out / 'config.yaml'}",
        seeds={"search": live.config.seed},
        inputs=input_hashes(live),
    ) as folder:
        return _run_in(folder, live, watch, prepared)


def _run_in(
    folder: RunFolder | None, live: Resolved, watch: Watch, prepared: ExactSearch | None = None
) -> Outcome:
    """Search, score, report; Ctrl-C outside the search itself says how to go on as well."""
    try:
        return _steps(folder, live, watch, prepared)
    except KeyboardInterrupt as error:
        saved = f"continue with: hwnas resume {folder.path}" if folder else "nothing was saved"
        raise Interrupted(f"interrupted; {saved}") from error


def _steps(
    folder: RunFolder | None, live: Resolved, watch: Watch, prepared: ExactSearch | None
) -> Outcome:
    for remark in live.remarks:
        watch.remark(remark)
    begun = begin_exactly(folder, live, prepared, watch)
    result = _search(folder, live, watch, exact_archs(begun, live.space))
    exact = compare_with_exact(folder, begun, result.front)
    if folder is not None:
        keep_matrices(folder, live.problem)
    rescored = None
    if live.rescore is not None:
        rescored = rescore(live.rescore, result.front.archs, watch, folder=folder)
    reports = write_run_report(folder, live) if folder is not None else ()
    judged = judge(live.problem, result.front, rescored)
    verified = _verified(folder, live, result, watch)
    if folder is not None and verified is not None:
        reports = write_run_report(folder, live)
    path = folder.path if folder else None
    return Outcome(live, result, rescored, path, reports, judged, verified, exact)


def _verified(
    folder: RunFolder | None, live: Resolved, result: SearchResult, watch: Watch
) -> Verification | None:
    """Measure the best designs; the search is done and reported, whatever comes of it."""
    if not live.config.verify:
        return None
    from hwnas.workflows.verify import verify

    try:
        return verify(live, result.front, watch, folder=folder)
    except DeviceError as error:
        if folder is None:
            raise
        raise DeviceError(
            f"the search is done, its report is in {folder.path}, and its designs could not be "
            f"measured: {error}; then continue with: hwnas resume {folder.path}"
        ) from error


def _search(folder: RunFolder | None, live: Resolved, watch: Watch, start: Archs) -> SearchResult:
    config = live.config
    budget: dict[str, Any] = {"max_evaluations": evaluations_of(live), "seed": config.seed}
    watch.begin("searching", evaluations_of(live))

    def show(progress: Progress) -> None:
        figures = {
            "hypervolume": progress.hypervolume,
            "evaluations/s": progress.evaluations_per_s,
            "front": float(progress.front_size),
            "real evaluations": float(progress.real_evaluations) or None,
        }
        known = {name: value for name, value in figures.items() if value is not None}
        watch.advance(progress.evaluations, **known)

    runs: dict[str, Callable[..., SearchResult]] = {
        "nsga2": partial(run_nsga2, population=config.population, start=start, **budget),
        "random": partial(run_random, batch=config.population, **budget),
        "exhaustive": run_exhaustive,
    }
    executor = make_executor(live, recorded=folder is not None)
    try:
        return runs[config.algorithm](
            live.problem, executor=executor, on_generation=show, folder=folder
        )
    finally:
        if executor is not None:
            executor.close()


def _named(model: str | type | CostModel, plugins: dict[str, object]) -> str:
    if isinstance(model, str):
        return model
    name = str(getattr(model, "name", getattr(model, "__name__", type(model).__name__)))
    plugins[name] = model
    return name


def _default_folder(space: str) -> Path:
    return Path("runs") / f"{datetime.now():%Y-%m-%d-%H%M%S}-{space}"
