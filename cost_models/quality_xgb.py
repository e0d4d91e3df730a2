"""Quality of a subnet, predicted from its genes by boosted trees.

Five XGBoost regressions of IoU on the columns of `cost_models.quality_features`, each with its own
draw of rows and columns; the prediction is their mean. A quarter of the architectures is held out:
they give the rank correlation that is shown, and the interval, which is split-conformal with
residuals divided by how much the five disagree (Lei et al., "Distribution-free predictive inference
for regression", JASA 2018, section 5.2).

It learns from evaluated subnets in a file (`hwnas evaluate --archs`; the one beside the supernet by
default) and, inside a search, from real evaluations by `iou` on the user's pictures. Where both are
there, the file's values are first brought to the user's scale by y' = a + b y, fitted on what the
two have in common: other pictures shift and stretch the quality of all subnets alike before they
change their order. Source for that step: scale-and-offset transfer, as for latency tables in
HELP (Lee et al. 2021) and the works compared there.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from cost_models.quality_features import QualityFeatures
from cost_models.quality_fit import LEVEL, QualityFit, Rows, learn, mean_and_spread
from cost_models.quality_labels import Labels, labels_of_file, subnets_beside
from hwnas.cost import CostBatch, CostContext, Direction, FitReport, Refinement, build
from hwnas.errors import CostError
from hwnas.space import Arch, Archs

__all__ = ["QualityXgb"]

Float = NDArray[np.float64]
_MONOTONE = {"none": (), "bits": ("bits",), "all": ("bits", "resolution", "depth", "width")}
_EVALUATIONS = 48
_START, _START_WITH_FILE = 24, 12
_ROUNDS = 4
_FILE = "quality.json"
_MEMBERS, _TREES = 5, 200
_SETTINGS = {
    "objective": "reg:squarederror", "tree_method": "hist", "max_depth": 3, "eta": 0.1,
    "min_child_weight": 1, "lambda": 1.0, "subsample": 0.8, "colsample_bytree": 0.7, "nthread": 1,
    "verbosity": 1,
}  # fmt: skip


class Trees:
    """Boosted trees with one set of settings and different seeds; one thread, so one answer."""

    def __init__(self, boosters: Sequence[Any]) -> None:
        self._boosters = list(boosters)

    @classmethod
    def fitted(
        cls, x: NDArray[np.floating[Any]], y: Float, weights: Float, signs: Sequence[int], *,
        members: int = _MEMBERS, trees: int = _TREES, **settings: Any,
    ) -> Self:  # fmt: skip
        """Train on columns x (n, f), labels y (n,) and weights (n,), monotone by `signs` (f,).

        `settings` are XGBoost's, laid over those of this module.
        """
        import xgboost

        rows = xgboost.DMatrix(x, y, weight=weights, nthread=1)
        monotone = "(" + ",".join(map(str, signs)) + ")"
        own = {**_SETTINGS, "monotone_constraints": monotone, "base_score": float(y.mean())}
        own |= settings
        return cls([xgboost.train({**own, "seed": seed}, rows, trees) for seed in range(members)])

    def predict(self, x: NDArray[np.floating[Any]]) -> Float:
        """Return what each member says, (members, n)."""
        if not len(x):
            return np.empty((len(self._boosters), 0))
        # what a DMatrix would be filled with, without the copies of one
        rows = np.ascontiguousarray(x, dtype=np.float32)
        return np.stack([b.inplace_predict(rows).astype(np.float64) for b in self._boosters])

    def save(self, folder: Path) -> None:
        """Write each member as XGBoost's own JSON, which later versions read as well, packed."""
        for index, booster in enumerate(self._boosters):
            packed = gzip.compress(bytes(booster.save_raw("json")), mtime=0)
            (folder / f"member_{index}.json.gz").write_bytes(packed)

    @classmethod
    def load(cls, folder: Path, *, members: int = _MEMBERS) -> Self:
        """Read `save` back."""
        import xgboost

        boosters = []
        for index in range(members):
            booster = xgboost.Booster({"nthread": 1})
            packed = (folder / f"member_{index}.json.gz").read_bytes()
            booster.load_model(bytearray(gzip.decompress(packed)))
            boosters.append(booster)
        return cls(boosters)


class QualityXgb:
    """Mean IoU as `iou` would measure it, with an interval that covers 90 %.

    Args:
        context: space; supernet and data only where designs are evaluated for real.
        archs: file of evaluated subnets; the one beside the supernet if None.
        prompt: box or point, of the subnets that are read and of real evaluations.
        images: pictures of a real evaluation, the first ones of the data.
        refine: real evaluations in a search at most; 48 where the user named data or where there is
            no file to learn from, else 0.
        start: how many of them are drawn at random from the first generation; 24, or 12 where a
            file has told the order already.
        monotone: for which genes more is never predicted to be worse: bits (each bit-width), all
            (resolution, depth and width as well; not true of every supernet), or none.

    Raises:
        CostError: an option makes no sense.
    """

    name = "quality"
    unit = "IoU"
    direction: Direction = "max"
    fidelity = "predicted"

    def __init__(
        self, context: CostContext, *, archs: str | None = None,
        prompt: Literal["box", "point"] = "box", images: int = 8, refine: int | None = None,
        start: int | None = None, monotone: str = "bits",
    ) -> None:  # fmt: skip
        self._options = {
            "archs": archs, "prompt": prompt, "images": images, "refine": refine, "start": start,
            "monotone": monotone,
        }  # fmt: skip
        self._check()
        self._context, self._prompt, self._images = context, prompt, images
        self._path = subnets_beside(context) if archs is None else Path(archs)
        wanted = context.data_source is not None or self._path is None
        self._refine = refine if refine is not None else _EVALUATIONS if wanted else 0
        usual = _START if self._path is None else _START_WITH_FILE
        self._start = min(self._refine, usual if start is None else start)
        self._features = QualityFeatures(context.space)
        self._signs = self._features.signs(_MONOTONE[monotone])
        self._of_file: Rows | None = None
        self.trees_: Trees | None = None
        self.fit_: QualityFit | None = None

    @classmethod
    def ready(cls, context: CostContext) -> bool:
        """Whether there are subnets to learn from, or pictures or weights of the user's own."""
        named = context.data_source is not None or context.supernet_source is not None
        return named or subnets_beside(context) is not None

    @property
    def needs(self) -> tuple[str, ...]:
        """Supernet and data, where designs are evaluated for real."""
        return ("supernet", "data") if self._refine else ()

    @property
    def monotone_in_bits(self) -> bool:
        """Whether a bit more is never predicted to be worse."""
        return self._options["monotone"] != "none"

    @property
    def input_files(self) -> tuple[Path, ...]:
        """The file that it learns from."""
        return () if self._path is None else (self._path,)

    @property
    def note(self) -> str:
        """What belongs to the number."""
        return f"{self._prompt} prompts"

    def refinement(self) -> Refinement | None:
        """Return the real evaluations that a search may spend."""
        if not self._refine:
            return None
        real = build("iou", self._context, prompt=self._prompt, max_images=self._images)
        return Refinement(real, self._refine, self._start, _ROUNDS)

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return the predicted IoU, shape (n,)."""
        return self.estimate(archs).value

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return predictions with an interval of 90 %, wider where the model extrapolates.

        Raises:
            CostError: there is nothing that it has learned from.
            DataError: the file of evaluated subnets cannot be used.
        """
        x = self._features.matrix(archs)
        trees, fit = self._fitted()
        value, spread = mean_and_spread(trees.predict(x))
        half, beyond = fit.interval(x, spread)
        lo = None if half is None else np.minimum(np.maximum(value - half, 0.0), value)
        hi = None if half is None else np.maximum(np.minimum(value + half, 1.0), value)
        level = None if half is None else LEVEL
        version = f"quality-1 {fit.digest}"
        return CostBatch(value, lo, hi, level, beyond, "predicted", self.unit, version)

    def fit(self, archs: Sequence[Arch], values: Float) -> Self:
        """Learn from real values besides those of the file, if there is one; replaces the last fit.

        Raises:
            CostError: fewer than eight different archs and no file.
        """
        own = Archs.of(self._context.space, archs)
        self._learn(Labels.of(own, np.asarray(values, dtype=np.float64)))
        return self

    def fit_report(self) -> FitReport | None:
        """Return how well it does on subnets that it was not fitted on."""
        if self.fit_ is None and self._path is None:
            return None
        return self._fitted()[1].report

    def save(self, folder: Path) -> None:
        """Write options, interval and report as JSON and the trees as XGBoost's own JSON."""
        trees, fit = self._fitted()
        trees.save(folder)
        content = {"features": self._features.names, "options": self._options, **fit.to_dict()}
        (folder / _FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, context: CostContext) -> Self:
        """Read `save` back.

        Raises:
            CostError: there is no such model, or it was fitted for another space.
        """
        try:
            content = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            names, options = content.pop("features"), content.pop("options")
            model = cls(context, **options)
            model.trees_, model.fit_ = Trees.load(folder), QualityFit.of(content)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CostError(
                f"{folder}: no quality predictor there ({error}); name a folder that `save` wrote"
            ) from error
        if tuple(names) != model._features.names:
            raise CostError(
                f"{folder}: a quality predictor of another space than {context.space.name} "
                f"({len(names)} features, expected {len(model._features.names)}); load it with the "
                "space that it was fitted for"
            )
        return model

    def _fitted(self) -> tuple[Trees, QualityFit]:
        if self.fit_ is None and self._path is not None:
            self._learn(None)
        if self.trees_ is None or self.fit_ is None:
            raise CostError(
                f"{self.name} has learned from nothing yet: no evaluated subnets lie beside the "
                "supernet; name a file with --set cost.quality.archs=FILE, make one with `hwnas "
                "evaluate --archs`, or let a search evaluate some (--set cost.quality.refine=48)"
            )
        return self.trees_, self.fit_

    def _learn(self, own: Labels | None) -> None:
        if self._of_file is None and self._path is not None:
            labels = labels_of_file(self._path, self._prompt, self._context)
            x = self._features.of_whole(labels.archs)
            self._of_file = Rows(labels.archs.ids, x, labels.y, f"subnets of {self._path.name}")
        rows = None
        if own is not None:
            x = self._features.matrix(own.archs)
            rows = Rows(own.archs.ids, x, own.y, "real evaluations")
        trained, self.fit_ = learn(rows, self._of_file, self._train, unit=self.unit)
        assert isinstance(trained, Trees)
        self.trees_ = trained

    def _train(self, x: Float, y: Float, weights: Float) -> Trees:
        return Trees.fitted(x, y, weights, self._signs)

    def _check(self) -> None:
        """Refuse options that make no sense, all at once."""
        options: dict[str, Any] = self._options
        problems = [
            f"{name} is {options[name]!r}, expected {' or '.join(known)}"
            for name, known in (("prompt", ("box", "point")), ("monotone", tuple(_MONOTONE)))
            if options[name] not in known
        ]
        least = {"images": 1, "refine": 0, "start": 0}
        problems += [
            f"{name} is {options[name]!r}, expected a whole number from {smallest}"
            for name, smallest in least.items()
            if options[name] is not None
            and (not isinstance(options[name], int) or options[name] < smallest)
        ]
        if problems:
            raise CostError(f"{self.name}: " + "; ".join(problems))
