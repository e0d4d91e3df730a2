"""Measure the quality of given subnets of a supernet on annotated images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from hwnas.cost import build as build_cost
from hwnas.data.classes import check_classes
from hwnas.data.scores import mean_of_images
from hwnas.errors import ConfigError
from hwnas.records import EvaluatedSubnet
from hwnas.space import Arch, SearchSpace, load_space
from hwnas.supernet.evaluation import PROMPT_KINDS, Evaluator, ImageScores
from hwnas.supernet.identity import supernet_identity
from hwnas.supernet.sam_supernet import SamSupernet, build
from hwnas.supernet.semantic import SemanticEvaluator, classes_of
from hwnas.supernet.torch_device import check_torch_device
from hwnas.workflows.arch_sources import archs_from
from hwnas.workflows.context import make_context
from hwnas.workflows.evaluate.data import EvaluationData, open_data
from hwnas.workflows.evaluate.lines import EvaluationLines, refuse_existing
from hwnas.workflows.watch import Silent, Watch

__all__ = ["evaluate_subnets"]

Line = dict[str, Any]


def evaluate_subnets(  # noqa: PLR0913 - one keyword for each option of the command
    supernet: str | Path,
    *,
    archs: str,
    data: str | Path | None = None,
    split: str = "val",
    split_seed: int | None = None,
    prompts: Sequence[str] = ("box",),
    resolution: int | None = None,
    space: str | SearchSpace | None = None,
    seed: int = 0,
    max_images: int | None = None,
    max_prompts: int | None = None,
    allow_empty: bool = False,
    out: Path | None = None,
    resume: bool = False,
    torch_device: str = "cpu",
    watch: Watch | None = None,
) -> list[Line]:
    """One line (`EvaluatedSubnet`, as a dict) for each subnet and kind of prompt, in their order.

    Args:
        supernet: a shipped name, a supernet file, or a checkpoint.
        archs: see `archs_from`: `largest`, `random:N`, a run folder, a `front.csv`, a JSONL file.
        data: folder of annotated images, see `find_pairs`; the embedded picture by default.
        split: train, val or test, where the folder knows splits.
        split_seed: draw the splits with this seed instead.
        prompts: `box`, `point`, or `none` for a supernet with a semantic head.
        resolution: replaces that of every subnet.
        space: what the subnets are of; by default the space of the supernet's geometry.
        seed: for `random:N` and for drawing images and objects.
        max_images: score at most so many images.
        max_prompts: prompt at most so many objects of an image.
        allow_empty: keep images without objects; they count with the prompt `none` only.
        out: JSONL file that gets each line as soon as it is known.
        resume: go on with `out`; what it holds is not evaluated again.
        torch_device: cpu or cuda.
        watch: told about the progress.

    Raises:
        HwnasError: a file, the data, a design or an option cannot be used.
    """
    kinds = _kinds(prompts)
    check_torch_device(torch_device)
    _check(max_prompts, out, resume)
    net = build(supernet)
    found = space if isinstance(space, SearchSpace) else load_space(space or net.geometry.name)
    designs = archs_from(found, archs, seed=seed, resolution=resolution)
    identity = supernet_identity(net)
    images = open_data(
        data, split=split, split_seed=split_seed, max_images=max_images, seed=seed,
        allow_empty=allow_empty,
    )  # fmt: skip
    judge = _judge(net.to(torch_device), images, kinds, max_prompts=max_prompts, seed=seed)
    facts = {"split": images.split, "supernet": identity} | judge.counts
    rows = zip(designs, (facts | cost for cost in _costs(found, designs)), strict=True)
    # opened last, so that a refused evaluation leaves no file behind
    with nullcontext() if out is None else EvaluationLines(out, resume=resume) as file:
        lines = _lines(rows, judge, kinds, file)
        return list(_watched(lines, len(designs) * len(kinds), watch or Silent()))


def _lines(
    rows: Iterable[tuple[Arch, Line]],
    judge: _Judge,
    kinds: Sequence[str],
    file: EvaluationLines | None,
) -> Iterator[Line]:
    """The lines of each design; those that the file lacks are measured and written."""
    for arch, facts in rows:
        wanted = [facts | {"arch_id": arch.id, "prompt": kind} for kind in kinds]
        known = [None if file is None else file.find(line) for line in wanted]
        figures = judge.score(arch) if None in known else {}
        for kind, line, old in zip(kinds, wanted, known, strict=True):
            new = old or _line(arch, line, figures[kind])
            if file is not None and old is None:
                file.append(new)
            yield new


def _watched(lines: Iterator[Line], total: int, watch: Watch) -> Iterator[Line]:
    watch.begin("evaluating subnets", total)
    for number, line in enumerate(lines, start=1):
        watch.advance(number, iou=line["iou"])
        yield line


def _check(max_prompts: int | None, out: Path | None, resume: bool) -> None:
    if max_prompts is not None and max_prompts < 1:
        raise ConfigError(f"--max-prompts {max_prompts}: expected 1 or more")
    if resume and out is None:
        raise ConfigError("--resume: no file to resume; name it with --out")
    if out is not None and not resume:
        refuse_existing(out)


def _line(arch: Arch, facts: Line, figures: Line) -> Line:
    row = EvaluatedSubnet(
        genes=dict(arch.genes), **facts, **{k: v for k, v in figures.items() if k != "class_iou"}
    )
    return asdict(row) | {k: v for k, v in figures.items() if k == "class_iou"}


class _Judge(Protocol):
    """Figures of subnets, and the numbers of images and objects that they are taken from."""

    counts: Line

    def score(self, arch: Arch) -> dict[str, Line]:
        """Figures by kind of prompt."""
        ...


def _judge(
    net: SamSupernet,
    data: EvaluationData,
    kinds: Sequence[str],
    *,
    max_prompts: int | None,
    seed: int,
) -> _Judge:
    if "none" in kinds:
        if len(kinds) > 1:
            raise ConfigError("--prompt none: a model takes prompts or it has classes, not both")
        return _SemanticJudge(net, data)
    if (classes := classes_of(net.sam)) is not None:
        raise ConfigError(
            f"--prompt {', '.join(kinds)}: this supernet was trained on the classes "
            f"{', '.join(classes)} and takes no prompts; evaluate it with --prompt none"
        )
    return _PromptJudge(net, data, kinds, max_prompts=max_prompts, seed=seed)


class _PromptJudge:
    def __init__(
        self, net: SamSupernet, data: EvaluationData, kinds: Sequence[str], *,
        max_prompts: int | None, seed: int,
    ) -> None:  # fmt: skip
        wanted = [kind for kind in PROMPT_KINDS if kind in kinds]
        self._net = net
        self._evaluator = Evaluator.of(
            net.sam, data.images, prompts=wanted, max_instances=max_prompts, seed=seed,
            boundary=True,
        )  # fmt: skip
        numbers = [len(truths.objects) for truths in self._evaluator.truths]
        self.counts: Line = {"images": sum(n > 0 for n in numbers), "objects": sum(numbers)}

    def score(self, arch: Arch) -> dict[str, Line]:
        embed = partial(self._net.embed, arch=arch)
        found = self._evaluator.score(embed, self._net.resolution(arch))
        return {kind: _figures(scores) for kind, scores in found.items()}


def _figures(scores: Sequence[ImageScores]) -> Line:
    iou, error = mean_of_images([s.iou for s in scores])
    bands = [s.boundary_iou for s in scores if s.boundary_iou is not None]
    return {"iou": iou, "error": error, "boundary_iou": mean_of_images(bands)[0]}


class _SemanticJudge:
    def __init__(self, net: SamSupernet, data: EvaluationData) -> None:
        self._net, self._evaluator = net, SemanticEvaluator(net.sam, data.images)
        check_classes(data.images)
        self.counts: Line = {"images": len(data.images), "objects": None}

    def score(self, arch: Arch) -> dict[str, Line]:
        embed = partial(self._net.embed, arch=arch)
        scores = self._evaluator.score(embed, self._net.resolution(arch))
        classes = {name: value for name, (value, _) in scores.classes.items()}
        return {"none": {"iou": scores.miou, "error": scores.error, "class_iou": classes}}


def _costs(space: SearchSpace, designs: Sequence[Arch]) -> Iterator[Line]:
    context = make_context(space)
    columns = {}
    for name in ("bitops", "system_bitops"):
        columns[name] = build_cost(name, context).evaluate(designs).tolist()
    for row in zip(*columns.values(), strict=True):
        yield dict(zip(columns, row, strict=True))


def _kinds(prompts: Sequence[str]) -> list[str]:
    known = (*PROMPT_KINDS, "none")
    wrong = [word for word in prompts if word not in known]
    if wrong:
        raise ConfigError(f"--prompt {', '.join(wrong)}: expected {', '.join(known)}")
    return list(dict.fromkeys(prompts)) or ["box"]
