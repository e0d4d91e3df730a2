"""From a design to a deploy folder: files, card, runner, verified before the folder appears."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hwnas.cost.lowering import lower
from hwnas.data.embedded import embedded_image
from hwnas.data.prompts import Prompts
from hwnas.data.scores import mean_of_images
from hwnas.data.transforms import preprocess
from hwnas.errors import ConfigError, ExportError, SpaceError
from hwnas.export.card import Card, CardQuality, write_card
from hwnas.export.folder_draft import drafted
from hwnas.export.mask_picture import draw_masks
from hwnas.export.native_check import LayerFate, check_layers, summary
from hwnas.export.quality import compare_quality
from hwnas.export.run import Segmenter
from hwnas.export.torch_form import check_equal, load_subnet, save_subnet
from hwnas.records.files import explained
from hwnas.supernet.evaluation import evaluate_images, predict_masks
from hwnas.supernet.identity import supernet_identity
from hwnas.workflows.evaluate.data import EvaluationData, open_data
from hwnas.workflows.export_source import ExportSource, exportable_supernet
from hwnas.workflows.watch import Silent, Watch
from hwnas.workload.sam_geometry import GEOMETRIES

__all__ = ["DEFAULT_FORMATS", "FORMATS", "Exported", "check_export", "export"]

Format = Literal["torch", "onnx", "tvm"]
FORMATS: tuple[Format, ...] = ("torch", "onnx", "tvm")
DEFAULT_FORMATS: tuple[Format, ...] = ("torch", "onnx")
_ASSETS = Path(__file__).parents[1] / "assets"
_TOLERANCE = 0.2  # points of IoU between the exported files and the supernet
_MAX_IMAGES, _MAX_PROMPTS = 24, 40


@dataclass(frozen=True)
class Exported:
    """A deploy folder that was written and verified."""

    folder: Path
    card: Card


def check_export(source: ExportSource) -> tuple[tuple[LayerFate, ...], tuple[str, ...]]:
    """How each layer will run on the device, and what that costs, in sentences.

    Raises:
        ConfigError: no device is known.
        SpaceError: the space does not say what its layers are.
    """
    device = source.context.device
    if device is None:
        raise ConfigError("--check: no device to check against; pass --device NAME")
    fates = check_layers(lower(source.space, source.arch), device)
    return fates, summary(fates)


def export(
    source: ExportSource, out: str | Path, *, formats: Sequence[str] = DEFAULT_FORMATS,
    style: str = "onnxruntime", storage: str = "int8", data: str | Path | None = None,
    max_images: int = _MAX_IMAGES, watch: Watch | None = None,
) -> Exported:  # fmt: skip
    """Write a deploy folder that does not exist yet; it appears once it is verified.

    Args:
        source: what to export, from `open_source`.
        out: the folder.
        formats: `torch`, `onnx`, `tvm` (for the source's device).
        style: `onnxruntime`, or `tensorrt` (a DequantizeLinear right after each QuantizeLinear).
        storage: `int8`, or `int4` for weights of 4 bits and fewer.
        data: images to verify on; the val split decides, the test split goes on the card. The
            embedded picture without it.
        max_images: of each split at most.
        watch: told where the export stands.

    Raises:
        ConfigError: an unknown format, a missing package, or a layer that has no integer codes.
        DataError: the images cannot be used.
        RunError: the folder exists or cannot be written.
        ExportError: the files do not compute what the supernet does.
        Interrupted: Ctrl-C; nothing is left behind.
    """
    _check_words(formats, style, storage)
    job = _Job(source, tuple(formats), style, storage, data, max_images, watch or Silent())
    with drafted(Path(out)) as draft:
        job.write(draft)
        job.verify(draft)
        card = job.card()
        write_card(card, draft)
    return Exported(Path(out), card)


def _check_words(formats: Sequence[str], style: str, storage: str) -> None:
    problems = [f"--format {word}: expected {', '.join(FORMATS)}"
                for word in formats if word not in FORMATS]  # fmt: skip
    if not formats:
        problems.append(f"--format: expected {', '.join(FORMATS)}")
    if style not in ("onnxruntime", "tensorrt"):
        problems.append(f"--style {style}: expected onnxruntime or tensorrt")
    if storage not in ("int8", "int4"):
        problems.append(f"--weights {storage}: expected int8 or int4")
    if problems:
        raise ConfigError("; ".join(problems))


@dataclass
class _Job:
    source: ExportSource
    formats: tuple[str, ...]
    style: str
    storage: str
    data: str | Path | None
    max_images: int
    watch: Watch
    checks: list[str] = field(default_factory=list)
    quality: list[CardQuality] = field(default_factory=list)
    fused: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        supernet = exportable_supernet(self.source.context, by="hwnas export")
        self.runtime = ""
        if "onnx" in self.formats:
            from hwnas.export.onnx_form import require_onnxruntime

            self.runtime = require_onnxruntime()
        self.builder = None
        if "tvm" in self.formats:
            from hwnas.export.tvm.form import tvm_builder

            self.builder = tvm_builder(self.source.context.device)
        splits = ("val", "test") if self.data is not None else ("val",)
        found = [open_data(self.data, split=s, max_images=self.max_images) for s in splits]
        self.images = {one.split: one for one in found}  # a folder without splits has one
        self.supernet = supernet
        self.plan = supernet.plan(self.source.arch)
        self.subnet = supernet.subnet(self.source.arch)
        image = embedded_image().image
        self.picture = preprocess(image, self.plan.resolution)[None]

    def write(self, draft: Path) -> None:
        """Write the networks, the runner, the picture and the licences."""
        self.watch.begin("writing the networks", None)
        if "torch" in self.formats:
            save_subnet(self.subnet, self.supernet.sam, draft)
        if "onnx" in self.formats:
            from hwnas.export.onnx_form import fused_products, save_onnx

            notes = {"arch_id": self.source.arch.id, "space": self.source.space.name}
            encoder, _ = save_onnx(
                self.subnet, self.supernet.sam, draft, notes=notes,
                style=self.style, storage=self.storage,  # type: ignore[arg-type]
            )  # fmt: skip
            self.fused = fused_products(encoder)
            self.notes.append(f"ONNX style {self.style}, weights stored as {self.storage}.")
            self._copy(Path(__file__).parents[1] / "export" / "run.py", draft / "run.py")
        if self.builder is not None:
            from hwnas.export.tvm.form import save_tvm

            self.watch.begin(f"compiling for {self.builder.device.key}", None)
            self.notes += save_tvm(self.subnet, self.supernet.sam, draft, self.builder)
        for path in self._licence_files():
            self._copy(path, draft / path.name)
        draw_masks(self._segment(draft), draft / "mask.png")

    def verify(self, draft: Path) -> None:
        """Compare with the supernet.

        Raises:
            ExportError: they part.
        """
        if "torch" in self.formats:
            check_equal(load_subnet(draft), self.supernet, self.plan, self.picture)
            self.checks.append("torch: equal to the supernet to the last bit, on one picture.")
        if "onnx" in self.formats:
            self._verify_layers(draft)
        for images in self.images.values():
            self._verify_quality(draft, images)

    def _verify_layers(self, draft: Path) -> None:
        from hwnas.export.layer_agreement import compare_layers, first_parting

        self.watch.begin("comparing the layers", None)
        layers = compare_layers(self.subnet, draft / "encoder.onnx", self.picture)
        parting = first_parting(layers)
        if parting is not None:
            shown = "\n  ".join(str(layer) for layer in layers if layer.parts)
            raise ExportError(
                f"ONNX Runtime parts from torch at {parting.name}; nothing was written. Layers "
                f"that rounding does not explain:\n  {shown}"
            )
        codes = sum(layer.codes for layer in layers)
        if codes:
            differing = sum(layer.codes * layer.differing for layer in layers) / codes
            worst = max(layers, key=lambda layer: layer.differing)
            self.checks.append(
                f"ONNX Runtime: {100 * (1 - differing):.4f} % of {codes} codes that the layers "
                f"multiply are equal to torch's, each layer given the same codes; most differ in "
                f"{worst.name} ({100 * worst.differing:.2g} %, by up to {worst.largest})."
            )
        self.checks.append(f"ONNX Runtime: {layers[-1]} in the neck alone.")

    def _verify_quality(self, draft: Path, images: EvaluationData) -> None:
        self.watch.begin(f"scoring {images.split}", len(images.images))
        segmenters = self._segmenters(draft)
        if self.builder is not None and not any(name.startswith("tvm") for name in segmenters):
            self.checks.append(
                f"tvm: compiled for {self.builder.device.key}, which is not this machine; not run."
            )
        if not segmenters:
            self.quality += self._torch_quality(images.split, images.images)
        for runtime, segmenter in segmenters.items():
            self._verify_runtime(runtime, segmenter, images)

    def _segmenters(self, draft: Path) -> dict[str, Segmenter]:
        """What segments pictures with the files of the draft, by runtime and its version."""
        found = {}
        if "onnx" in self.formats:
            found[f"onnxruntime {self.runtime}"] = Segmenter(draft, self.plan.resolution)
        if self.builder is not None:
            from hwnas.export.tvm.form import open_tvm

            module = open_tvm(draft, self.builder.device)
            if module is not None:
                found[f"tvm {version('apache-tvm')}"] = module
        return found

    def _verify_runtime(self, runtime: str, segmenter: Segmenter, images: EvaluationData) -> None:
        pairs = compare_quality(
            segmenter, self.supernet, self.plan, images.images, max_prompts=_MAX_PROMPTS,
            advance=self.watch.advance,
        )  # fmt: skip
        for pair in pairs:
            self.quality.append(
                CardQuality(images.split, pair.prompt, pair.images, pair.objects, runtime,
                            pair.exported, pair.error, pair.supernet)
            )  # fmt: skip
            if not pair.within(_TOLERANCE):
                raise ExportError(
                    f"{runtime} on {images.split}: {pair}; {_TOLERANCE} are allowed beside two "
                    "standard errors; nothing was written. No layer alone explains it; export "
                    "--format torch, and please report the design with its genes"
                )
            self.checks.append(f"{runtime} on {images.split}: {pair}; {_TOLERANCE} allowed.")

    def _torch_quality(self, split: str, images: Sequence[Any]) -> list[CardQuality]:
        found = []
        for kind in ("box", "point"):
            scores = evaluate_images(
                self.supernet.sam, images, resolution=self.plan.resolution, prompt=kind,
                embed=self.subnet, max_instances=_MAX_PROMPTS,
            )  # fmt: skip
            iou, error = mean_of_images(scores)
            count, objects = sum(1 for s in scores if len(s)), sum(map(len, scores))
            found.append(CardQuality(split, kind, count, objects, "torch", iou, error, iou))
        return found

    def _segment(self, draft: Path) -> Any:
        """What the picture is drawn with: the first runtime of the formats, else torch."""
        for segmenter in self._segmenters(draft).values():
            return lambda image, boxes: segmenter.masks(
                segmenter.embed(image), image.shape[:2], boxes=boxes
            )[0]

        def by_torch(image: Any, boxes: Any) -> Any:
            embedding = self.subnet(preprocess(image, self.plan.resolution)[None])
            points = np.zeros((len(boxes), 2), np.float32)
            prompts = Prompts(np.arange(len(boxes), dtype=np.int32), boxes, points)
            size = image.shape[:2]
            return predict_masks(self.supernet.sam, embedding, size, prompts, prompt="box").numpy()

        return by_torch

    def card(self) -> Card:
        source, context = self.source, self.source.context
        return Card(
            arch_id=source.arch.id, space=source.space.name, genes=source.arch.genes,
            plan=self.plan, supernet=self._supernet_name(),
            supernet_identity=supernet_identity(self.supernet),
            device=None if context.device is None else context.device.key,
            picked=source.picked, run=source.run, costs=source.costs, quality=self.quality,
            checks=self.checks, layers_on_device=self._on_device(), fused=self.fused,
            licences=self._licences(), versions=self._versions(),
            notes=self.notes,
        )  # fmt: skip

    def _on_device(self) -> tuple[str, ...]:
        if self.source.context.device is None:
            return ()
        try:
            return check_export(self.source)[1]
        except SpaceError:
            return ()

    def _supernet_name(self) -> str:
        named = self.source.context.supernet_source
        return (
            f"{self.source.space.name}, shipped with hwnas" if named is None else Path(named).name
        )

    def _ships(self) -> bool:
        named = self.source.context.supernet_source
        return named is None or named in GEOMETRIES

    def _licence_files(self) -> list[Path]:
        if not self._ships():
            return []
        return [_ASSETS / "NOTICE", *sorted(_ASSETS.glob("LICENSE*"))]

    def _licences(self) -> tuple[str, ...]:
        picture = "mask.png shows a picture out of StarDist (BSD 3-Clause), see NOTICE."
        if self._ships():
            return ("The weights ship with hwnas under the terms in NOTICE.", picture)
        return (
            "The weights come from your own supernet; its data and base checkpoint decide their "
            "licence.",
            "mask.png shows a picture out of StarDist (BSD 3-Clause, (c) Uwe Schmidt, Martin "
            "Weigert; 2018 Data Science Bowl, CC0 1.0).",
        )

    def _versions(self) -> Mapping[str, str]:
        own = {"onnx": ("onnx", "onnxruntime"), "tvm": ("apache-tvm",)}
        names = ("hwnas", "torch", *(n for form in self.formats for n in own.get(form, ())))
        return {name: version(name) for name in names}

    def _copy(self, path: Path, target: Path) -> None:
        with explained("write", target):
            shutil.copyfile(path, target)
