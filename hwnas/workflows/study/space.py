"""The effective-search-space study: what each axis of a space saves, and what it costs.

Source: section 9 of the project's specification, after the question (the numbers are not published)
of "Mixed-precision Supernet Training from Vision Foundation Models using Low Rank Adapter"
(Sakuma et al., 2024), which compares resolution, feature size, width, depth and bit-width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hwnas.data.labeled import LabeledImage
from hwnas.data.scores import mean_with_error
from hwnas.errors import Interrupted
from hwnas.registry.loading import split_file_spec
from hwnas.space import Arch, Scalar, SearchSpace, load_space
from hwnas.space.derived import optional_axes
from hwnas.workflows.evaluate.data import EvaluationData
from hwnas.workflows.study.files import write_study
from hwnas.workflows.study.hypotheses import Hypothesis, hypotheses
from hwnas.workflows.study.layers import LayerNoise, layer_noise
from hwnas.workflows.study.measure import Measured, Measuring, Mode, Protocol, check_fit
from hwnas.workflows.study.options import (
    StudyOptions,
    Subject,
    hash_images,
    images_of,
    load_subject,
)
from hwnas.workflows.study.proposal import kept_options, proposal_yaml
from hwnas.workflows.study.slices import Plan, Slice
from hwnas.workflows.study.tables import to_json
from hwnas.workflows.study.verdict import (
    Point,
    best_axis,
    judged,
    pair_gain,
    point_of,
    with_steps,
)
from hwnas.workflows.study_log import StudyLog
from hwnas.workflows.watch import Silent, Watch

__all__ = ["SpaceStudy", "StudyOptions", "study_space"]


@dataclass(frozen=True)
class SpaceStudy:
    """What a study found; `proposed` is the text of a derived space, None without quality."""

    space: str
    settings: dict[str, Any]
    notes: tuple[str, ...]
    largest: dict[str, Any]
    points: tuple[Point, ...]
    layers: tuple[LayerNoise, ...] = ()
    hypotheses: tuple[Hypothesis, ...] = ()
    kept: dict[str, tuple[Scalar, ...]] | None = None
    proposed: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data, as in `space_study.json`."""
        return to_json(self)


def study_space(
    space: str | SearchSpace = "sam-vit-t",
    *,
    out: str | Path,
    supernet: object | None = None,
    data: str | Path | Sequence[LabeledImage] | None = None,
    options: StudyOptions | None = None,
    resume: bool = False,
    watch: Watch | None = None,
) -> SpaceStudy:
    """Measure the axes of a space on a supernet, and write tables, pictures and a smaller space.

    Args:
        space: name or file of a space over SAM, or the space.
        out: folder of the study: `measurements.jsonl`, `space_study.json`, `space_study.md`,
            `sensitivity.csv`, `axes.png`, `sensitivity.png`, `proposed_space.yaml`, and
            `evaluations.jsonl` with the subnets of the space that were evaluated.
        supernet: name, file, or a supernet; by default the one that ships for the space.
        data: folder of images and masks, or the images; the embedded picture by default.
        options: everything else.
        resume: continue the study in `out`, or begin it where there is none.
        watch: told where the study stands.

    Raises:
        ConfigError: options, axes or supernet do not fit the space.
        RunError: the folder exists, or was begun with other settings.
        Interrupted: Ctrl-C; what was measured is saved.
        HwnasError: space, supernet or data cannot be loaded.
    """
    options, watch = options or StudyOptions(), watch or Silent()
    live = load_space(space)
    plan = Plan(live, options.axes)
    base = _base_name(space)
    folder = Path(out)
    if not options.quality:
        settings = {"space": live.name, "supernet": None}
        with StudyLog(folder, settings, resume=resume) as log:
            return write_study(_bitops_alone(live.name, plan), live, log)
    subject = load_subject(live, supernet)
    subject = replace(subject, synthetic=subject.synthetic or options.synthetic)
    check_fit(live, subject.supernet)
    found = images_of(data, options)
    with StudyLog(folder, _settings(live, subject, found, options), resume=resume) as log:
        study = _Study(plan, subject, found, options, log, watch)
        try:
            return write_study(study.run(base), live, log)
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"interrupted; {len(log)} measurements are in {folder}: say the same again with "
                "--resume to go on"
            ) from error


class _Study:
    """One study with everything loaded."""

    def __init__(
        self, plan: Plan, subject: Subject, data: EvaluationData, options: StudyOptions,
        log: StudyLog, watch: Watch,
    ) -> None:  # fmt: skip
        self._plan, self._subject, self._data, self._images = plan, subject, data, data.images
        self._options, self._watch = options, watch
        self._log, self._done = log, 0
        protocol = Protocol(
            data.split, options.prompt, options.max_objects, options.seed, subject.identity
        )
        self._measuring = Measuring(subject.supernet, data.images, protocol, log, plan, self._tick)

    def run(self, base: str) -> SpaceStudy:
        slices = self._plan.slices()
        top = self._plan.maximum()
        best = self._axes_stage(slices, top)
        points = [self._point(one, top, best) for one in slices]
        points = self._pairs_stage(slices, points, top, best)
        layers = self._layers_stage(best)
        blind = self._measuring.quality(self._plan.largest, "blind")
        facts = _facts(top) | {"iou": best.iou, "error": best.error, "blind_iou": blind.iou}
        study = SpaceStudy(
            self._plan.space.name, asdict(self._options), self._notes(blind), facts, tuple(points),
            tuple(layers),
        )  # fmt: skip
        if self._subject.synthetic:
            return _without_quality(study, slices, top)
        return self._proposed(
            replace(study, hypotheses=tuple(hypotheses(points, layers))), slices, base
        )

    def _axes_stage(self, slices: Sequence[Slice], top: Slice) -> Measured:
        """Measure the largest network, every slice, its float twin and its random contexts."""
        jobs: list[tuple[Arch, Mode]] = [(top.arch, "subnet"), (top.arch, "blind")]
        jobs += [(one.arch, "subnet") for one in slices]
        floats = [one for one in slices if self._has_float(one)]
        jobs += [(one.arch, "float") for one in ([top, *floats] if floats else [])]
        jobs += [
            (arch, "subnet") for one in slices for pair in self._contexts(one) for arch in pair
        ]
        self._measure("axes", jobs)
        return self._measuring.quality(top.arch)

    def _measure(self, stage: str, jobs: Sequence[tuple[Arch, Mode]]) -> None:
        self._begin(stage, self._measuring.unknown(jobs))
        for arch, mode in jobs:
            self._measuring.quality(arch, mode)

    def _point(self, one: Slice, top: Slice, best: Measured) -> Point:
        point = point_of(one, top, self._measuring.quality(one.arch), best)
        if self._has_float(one):
            full = self._measuring.quality(top.arch, "float")
            loss, _ = full.loss(self._measuring.quality(one.arch, "float"))
            point = replace(point, float_loss=loss)
        losses = [
            self._measuring.quality(without).loss(self._measuring.quality(with_value))[0]
            for without, with_value in self._contexts(one)
        ]
        if losses:
            mean, error = mean_with_error(losses)
            point = replace(point, context_loss=mean, context_error=error)
        return point

    def _pairs_stage(
        self, slices: Sequence[Slice], points: Sequence[Point], top: Slice, best: Measured
    ) -> list[Point]:
        """Try every value that is below the front with the best axis of another operator."""
        tolerance, max_loss = self._options.tolerance, self._options.max_loss
        found = judged(with_steps(points), best, tolerance=tolerance, max_loss=max_loss)
        left = [
            i for i, p in enumerate(found)
            if p.kept is False and p.loss is not None and p.loss <= max_loss
        ]  # fmt: skip
        partners = {i: best_axis(found, tolerance, without=found[i].operator) for i in left}
        pairs = {
            i: [self._plan.pair(slices[i], other) for other in slices if other.axis.name == name]
            for i, name in partners.items()
        }
        self._measure("pairs", [(p.arch, "subnet") for tried in pairs.values() for p in tried])
        alone = [(p.gbitops, p.iou) for p in found if p.iou is not None]
        alone.append((top.bitops / 1e9, best.iou))
        for i, tried in pairs.items():
            gains = [
                pair_gain(p.bitops / 1e9, self._measuring.quality(p.arch).iou, alone) for p in tried
            ]
            known = [gain for gain in gains if gain is not None]
            found[i] = replace(found[i], pair=partners[i], pair_gain=max(known, default=None))
        return judged(found, best, tolerance=tolerance, max_loss=max_loss)

    def _layers_stage(self, best: Measured) -> list[LayerNoise]:
        """Noise of every single change, and IoU of those that disturb most."""
        n = min(self._options.sensitivity_images, len(self._images))
        changes = self._plan.changes() if n else []
        if not changes:
            return []
        self._begin("single changes", self._measuring.unknown_noise(changes, n))
        geometry = self._subject.supernet.geometry
        found = self._measuring.noise(changes, n)
        rows = layer_noise(found, lambda block: geometry.window_of(block) == 0)
        worst = _worst(rows, self._options.top)
        self._measure("most sensitive", [(changes[i].arch, "subnet") for i in worst])
        for i in worst:
            loss, error = best.loss(self._measuring.quality(changes[i].arch))
            rows[i] = replace(rows[i], loss=loss, loss_error=error)
        return rows

    def _proposed(self, study: SpaceStudy, slices: Sequence[Slice], base: str) -> SpaceStudy:
        space = self._plan.space
        kept = kept_options(
            space, slices, study.points, study.layers, max_layer_loss=self._options.tolerance
        )
        images = f"{len(self._images)} images, {self._options.prompt} prompts"
        about = f"what a study of {self._subject.name} on {images} kept"
        text = proposal_yaml(base, space, kept, name="proposed", description=about)
        offered = optional_axes(space)
        passed = [f"{p.axis} {p.value}" for p in study.points if p.axis in offered and p.kept]
        note = (
            f"{', '.join(passed)} passed as well; the proposal leaves optional axes out, as its "
            "architectures would no longer have the ids of the base: add them under axes and keep"
        )
        notes = (*study.notes, note) if passed else study.notes
        return replace(study, kept=kept, proposed=text, notes=notes)

    def _contexts(self, one: Slice) -> list[Any]:
        n = self._options.archs_per_value - 1
        return list(self._plan.contexts(one, n, self._options.seed)) if n else []

    def _has_float(self, one: Slice) -> bool:
        return self._options.floating and one.axis.operator != "bit-width"

    def _notes(self, blind: Measured) -> tuple[str, ...]:
        o, objects = self._options, "the same for every network"
        notes = [
            f"weights: {self._subject.name}; {len(self._images)} images "
            f"({self._data.split}), at most {o.max_objects} objects an "
            f"image, {objects}; {o.prompt} prompts; quality is IoU, a point is 0.01",
            "errors are standard errors over images; those of losses are of the difference image "
            "by image",
            "the study describes these weights: train further, and it may say otherwise",
        ]
        if not self._subject.synthetic:
            notes.append(
                f"an embedding of zeros scores {blind.iou:.3f} with these prompts: what is near it "
                "sees nothing"
            )
        else:
            notes.append(
                "the weights are synthetic: no figure of quality is shown, none has a meaning"
            )
        return tuple(notes)

    def _begin(self, stage: str, total: int) -> None:
        self._done = 0
        if total:
            self._watch.begin(stage, total)

    def _tick(self) -> None:
        self._done += 1
        self._watch.advance(self._done)


def _worst(rows: Sequence[LayerNoise], top: int) -> list[int]:
    """Indexes of the rows with the most noise, as many of each bit-width."""
    widths = sorted({row.bits for row in rows}, reverse=True)
    ranked = {
        bits: sorted((i for i, r in enumerate(rows) if r.bits == bits), key=lambda i: -rows[i].nsr)
        for bits in widths
    }
    return [i for bits in widths for i in ranked[bits][: top // len(widths)]]


def _facts(top: Slice) -> dict[str, Any]:
    return {
        "arch_id": top.arch.id, "gbitops": top.bitops / 1e9,
        "system_gbitops": top.system_bitops / 1e9, "iou": None, "error": None, "blind_iou": None,
    }  # fmt: skip


def _bitops_alone(name: str, plan: Plan) -> SpaceStudy:
    top = plan.maximum()
    points = tuple(point_of(one, top, None, None) for one in plan.slices())
    notes = ("BitOPs alone: no weights and no images were used",)
    return SpaceStudy(name, {"quality": False}, notes, _facts(top), points)


def _without_quality(study: SpaceStudy, slices: Sequence[Slice], top: Slice) -> SpaceStudy:
    points = tuple(point_of(one, top, None, None) for one in slices)
    return replace(study, largest=_facts(top), points=points, layers=())


def _settings(
    space: SearchSpace, subject: Subject, data: EvaluationData, options: StudyOptions
) -> dict[str, Any]:
    """What a measurement depends on; the rest of the options may change from run to run."""
    return {
        "space": space.name, "supernet": subject.name, "supernet_identity": subject.identity,
        "images": [image.name for image in data.images],
        "images_sha256": hash_images(data.images), "split": data.split,
        "prompt": options.prompt, "max_objects": options.max_objects, "seed": options.seed,
    }  # fmt: skip


def _base_name(space: str | SearchSpace) -> str:
    """How a file in another folder names the space."""
    if isinstance(space, SearchSpace):
        return space.name
    file = split_file_spec(space)
    if file is not None:
        return f"{Path(file[0]).resolve()}" + (f":{file[1]}" if file[1] else "")
    return str(Path(space).resolve()) if Path(space).suffix in {".yaml", ".yml"} else space
