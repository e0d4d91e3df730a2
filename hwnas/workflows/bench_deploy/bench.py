"""Time and quality of every network in every runtime, in turns within one process."""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwnas.cost import CostContext, build, estimate
from hwnas.data.embedded import embedded_image
from hwnas.data.scores import mean_of_images
from hwnas.device.host import is_this_machine
from hwnas.errors import ConfigError, DeviceError, HwnasError
from hwnas.export.quality import segmenter_scores, truths_of
from hwnas.export.run import coordinates, preprocess
from hwnas.export.runtimes import Runnable, chosen_runtimes, runnable, torch_threads
from hwnas.space import Archs
from hwnas.workflows.bench_deploy.subjects import (
    DESIGN_RUNTIMES,
    DesignChoice,
    Subject,
    choose,
    subjects_of,
)
from hwnas.workflows.evaluate.data import EvaluationData, open_data
from hwnas.workflows.watch import Silent, Watch

__all__ = ["DeployBench", "bench_deploy"]

_LOG = logging.getLogger(__name__)
_MEGA, _PERCENT = 1e6, 100
Row = dict[str, object]
_UNKNOWN: Row = {"predicted ms": None, "from ms": None, "to ms": None, "known as": None}


@dataclass(frozen=True)
class DeployBench:
    """What is measured.

    Attributes:
        runtimes: Of `torch`, `onnxruntime`, `openvino`, `tvm`; those that are installed by default.
        resolution: Of full precision and of 8 bits; the largest of the space by default.
        threads: Of every runtime.
        rounds: Turns; in each a network runs three times, of which the first does not count.
        data: Annotated images for IoU; none: no IoU.
        split: Of the data.
        max_images: Of the split.
        max_prompts: Objects of an image that are prompted.
    """

    runtimes: tuple[str, ...] | None = None
    resolution: int | None = None
    threads: int = 1
    rounds: int = 15
    data: str | Path | None = None
    split: str = "test"
    max_images: int | None = None
    max_prompts: int = 12

    def __post_init__(self) -> None:
        if min(self.threads, self.rounds, self.max_prompts) < 1:
            raise ConfigError(
                f"bench deploy: {self.threads} threads, {self.rounds} rounds, {self.max_prompts} "
                "prompts; expected 1 or more of each"
            )


@dataclass
class _Entry:
    subject: Subject
    opened: Runnable
    encoder_ms: list[float] = field(default_factory=list)
    decoder_ms: list[float] = field(default_factory=list)


def bench_deploy(
    choice: DesignChoice, options: DeployBench | None = None, *, watch: Watch | None = None
) -> list[Row]:
    """Time and quality of designs in every runtime, beside the full network in float and in W8A8.

    Full precision is the base as it was before the supernet was trained, from the same graph as
    our designs; W8A8 is the largest subnet at 8 bits. All networks are open at the same time and
    take turns, so that a slow moment of the machine meets all of them; the least time counts, the
    median stands beside it. `faster` compares encoders with that of the fastest full precision.
    `predicted ms` is what the cost model `latency` says of encoder and one prompt in TVM. Prompts
    are decoded in float32 everywhere.

    Raises:
        ConfigError, ArchError, RunError: the designs, or a runtime, are not at hand.
        DeviceError: the device is another machine.
    """
    options, watch = options or DeployBench(), watch or Silent()
    runtimes = chosen_runtimes(options.runtimes)
    if not set(runtimes) & set(DESIGN_RUNTIMES):
        raise ConfigError(
            f"runtimes {', '.join(runtimes)}: torch runs full precision alone; name one of "
            f"{', '.join(DESIGN_RUNTIMES)} too, installed with pip install 'hwnas[onnx]'"
        )
    if options.data is not None and choice.random_weights:
        raise ConfigError("--random-weights have no quality to score; leave --data out")
    context, archs = choose(choice)
    builder = _builder(context) if "tvm" in runtimes else None
    watch.begin("opening the supernet", None)
    subjects = subjects_of(choice, context, archs, options.resolution)
    data = None if options.data is None else open_data(
        options.data, split=options.split, max_images=options.max_images, seed=choice.seed
    )  # fmt: skip
    watch.begin("writing the networks", None)
    with tempfile.TemporaryDirectory(prefix="hwnas-bench-") as kept, torch_threads(options.threads):
        entries = []
        for place, subject in enumerate(subjects):
            for runtime in subject.runtimes:
                if runtime in runtimes:
                    folder = Path(kept) / f"{place}-{runtime}"
                    folder.mkdir()
                    opened = runnable(runtime, subject.subnet, subject.sam, folder,
                                      threads=options.threads, builder=builder)  # fmt: skip
                    entries.append(_Entry(subject, opened))
        _take_turns(entries, options.rounds, watch)
        qualities = _qualities(entries, data, options.max_prompts, choice.seed, watch)
    predicted = _predictions(context, subjects)
    full = [min(e.encoder_ms) for e in entries if e.subject.arch is None]
    return [
        _row(entry, min(full, default=None), quality, predicted.get(entry.subject.name, _UNKNOWN))
        for entry, quality in zip(entries, qualities, strict=True)
    ]


def _builder(context: CostContext) -> Any:
    from hwnas.export.tvm.form import tvm_builder

    if context.device is None or not is_this_machine(context.device):
        name = "none" if context.device is None else context.device.key
        raise DeviceError(
            f"{name} is not this machine, where the networks are timed; pass --device host, or "
            "leave tvm out of --runtimes"
        )
    return tvm_builder(context.device)


def _take_turns(entries: Sequence[_Entry], rounds: int, watch: Watch) -> None:
    """Time the encoder and the decoding of one box, every network once a round."""
    picture = embedded_image().image
    size = (picture.shape[0], picture.shape[1])
    height, width = size
    middle = [width * 0.4, height * 0.4, width * 0.6, height * 0.6]
    inputs: dict[int, tuple[Any, Any]] = {}
    watch.begin("timing", rounds)
    for done in range(1, rounds + 1):
        for entry in entries:
            segmenter, side = entry.opened.segmenter, entry.subject.subnet.plan.resolution
            if side not in inputs:
                box = ([middle[:2], middle[2:]], [2, 3])
                inputs[side] = preprocess(picture, side), coordinates(box, size, side)
            image, prompt = inputs[side]
            embedding = segmenter.embed_input(image)
            entry.encoder_ms += _times(lambda: segmenter.embed_input(image))  # noqa: B023
            segmenter.logits(embedding, *prompt)
            entry.decoder_ms += _times(lambda: segmenter.logits(embedding, *prompt))  # noqa: B023
        watch.advance(done)


def _times(call: Callable[[], object]) -> list[float]:
    found = []
    for _ in range(2):
        begun = time.perf_counter()
        call()
        found.append((time.perf_counter() - begun) * 1e3)
    return found


def _qualities(
    entries: Sequence[_Entry], data: EvaluationData | None, max_prompts: int, seed: int,
    watch: Watch,
) -> list[Row]:  # fmt: skip
    """IoU in percent and its standard error, by prompt."""
    if data is None:
        return [{} for _ in entries]
    truths = truths_of(data.images, max_prompts=max_prompts, seed=seed)
    rows = []
    for entry in entries:
        name = f"{entry.subject.name} in {entry.opened.runtime}"
        watch.begin(f"scoring {name}", len(data.images))
        scores = segmenter_scores(
            entry.opened.segmenter, data.images, truths, advance=watch.advance
        )
        row: Row = {}
        for kind, found in scores.items():
            iou, error = mean_of_images(found)
            row[f"IoU {kind} %"] = _PERCENT * iou
            row[f"+- {kind}"] = None if error is None else _PERCENT * error
        rows.append(row)
    return rows


def _predictions(context: CostContext, subjects: Sequence[Subject]) -> dict[str, Row]:
    """Latency in ms, its interval and how it is known, by subject; empty where nothing can say."""
    named = [(subject.name, subject.arch) for subject in subjects if subject.arch is not None]
    try:
        model = build("latency", context)
        batch = estimate(model, Archs.of(context.space, [arch for _, arch in named]))
    except HwnasError as error:
        _LOG.warning("no predicted latency: %s", error)
        return {}
    unknown = [None] * len(named)
    lows = unknown if batch.lo is None else batch.lo.tolist()
    highs = unknown if batch.hi is None else batch.hi.tolist()
    values = batch.value.tolist()
    return {
        name: {"predicted ms": value, "from ms": low, "to ms": high, "known as": batch.fidelity}
        for (name, _), value, low, high in zip(named, values, lows, highs, strict=True)
    }


def _row(entry: _Entry, full: float | None, quality: Row, predicted: Row) -> Row:
    encoder, decoder = min(entry.encoder_ms), min(entry.decoder_ms)
    return {
        "network": entry.subject.name,
        "px": entry.subject.subnet.plan.resolution,
        "runtime": entry.opened.runtime,
        "encoder ms": encoder,
        "median ms": statistics.median(entry.encoder_ms),
        "faster": None if full is None else full / encoder,
        "with a box ms": encoder + decoder,
        **(predicted if entry.opened.runtime == "tvm" else _UNKNOWN),
        "encoder MB": entry.opened.encoder_bytes / _MEGA,
        **quality,
    }
