"""Any cost model as a predictor of quality: brought to IoU on evaluated subnets, and judged.

A proxy orders subnets at best; a limit such as `quality>=0.5` needs its values in the unit of
quality. Two dozen evaluated subnets are enough to fit a curve through them, to tell whether the
proxy orders the user's own task better than a count of the network does, and to give an interval.
Source: the project's specification of cost models, sections 5.1, 8.3 and 8.6.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cost_models.calibrated_fits import KINDS, Kind
from cost_models.calibrated_learning import LEVEL, Comparison, Examples, Learned, learn
from cost_models.quality_features import QualityFeatures
from cost_models.quality_labels import Labels, labels_of_file, subnets_beside
from hwnas.cost import CostBatch, CostContext, Direction, FitReport, build, declared_needs
from hwnas.cost.proxies import Counts, quality_sign
from hwnas.errors import CostError
from hwnas.space import Arch, Archs, SearchSpace

__all__ = ["CalibratedProxy"]

Float = NDArray[np.float64]
_FEWEST = 8
_FILE = "calibrated.json"
_LOG = logging.getLogger(__name__)


class CalibratedProxy:
    """IoU from one or several other cost models, with an interval that covers 90 %.

    Where the fit orders left-out subnets no better than every count of the network does by itself
    (parameters, MACs, depth), or with a Spearman's rho below 0.3, it refuses to answer from the
    file; after `fit` with given values it answers with a warning, as a search goes on learning.
    Three quarters of the subnets are fitted on and the rest gives a split-conformal interval; of
    fewer than 27 all are fitted on, and errors of leaving one out stand in.

    Args:
        context: space, and whatever the wrapped cost models need.
        proxy: the cost model to wrap, or several for `ridge`: names, files or module paths.
        fit: `isotonic`, a monotone curve of one proxy, or `ridge`, a linear regression on all
            proxies and the counts.
        archs: file of evaluated subnets; the one beside the supernet if None.
        prompt: box or point, of the subnets that are read.
        most: subnets that are learned from at most; every one costs an evaluation of the proxies.
        options: options of the proxies, by the name given in `proxy`.
        refuse: False answers whatever the comparison says; `comparison` tells.

    Raises:
        CostError: an option makes no sense.
    """

    name = "calibrated"
    unit = "IoU"
    direction: Direction = "max"
    fidelity = "predicted"

    def __init__(
        self,
        context: CostContext,
        *,
        proxy: str | Sequence[str] = "bitops",
        fit: Kind = "isotonic",
        archs: str | None = None,
        prompt: str = "box",
        most: int = 96,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        refuse: bool = True,
    ) -> None:
        specs = [proxy] if isinstance(proxy, str) else list(proxy)
        self._options: dict[str, Any] = {
            "proxy": specs, "fit": fit, "archs": archs, "prompt": prompt, "most": most,
            "options": {name: dict(own) for name, own in (options or {}).items()},
            "refuse": refuse,
        }  # fmt: skip
        self._check()
        self._context, self._specs, self._kind, self._refuse = context, specs, fit, refuse
        features = QualityFeatures(context.space)
        whole = _widened(context, features.whole)
        self._space, self._in_whole = whole.space, features.in_whole
        self._models = [build(s, whole, **self._options["options"].get(s, {})) for s in specs]
        self._counts = Counts(whole)
        self._path = subnets_beside(context) if archs is None else Path(archs)
        self._given = False
        self.learned_: Learned | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """What the wrapped cost models need."""
        return tuple(dict.fromkeys(n for model in self._models for n in declared_needs(model)))

    @property
    def input_files(self) -> tuple[Path, ...]:
        """The file that it learns from."""
        return () if self._path is None else (self._path,)

    @property
    def note(self) -> str:
        """What belongs to the number."""
        words = f"{self._kind} fit of {', '.join(self._specs)}"
        if self.learned_ is None:
            return words
        found = self.learned_.comparison
        better = [name for name in found.rivals if name not in found.beaten]
        return f"{words}; not surely better than {', '.join(better)} alone" if better else words

    @property
    def comparison(self) -> Comparison:
        """Rank correlations of leaving one out, beside those of counts.

        Raises:
            CostError: there is nothing to learn from.
        """
        return self._found().comparison

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return the predicted IoU, shape (n,)."""
        return self.estimate(archs).value

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return predictions with an interval of 90 %, twice as wide beyond what was fitted on.

        Raises:
            CostError: there is nothing to learn from, or no count is beaten.
            DataError: the file of evaluated subnets cannot be used.
        """
        learned = self._found()
        doubt = None if self._given else self._doubt(learned)
        if doubt is not None:
            raise CostError(
                f"{doubt}; choose another proxy with --set cost.calibrated.proxy=NAME (`hwnas "
                "study proxies` compares them), or use it all the same with --set "
                "cost.calibrated.refuse=false"
            )
        x = self._columns(self._in_whole(Archs.of(self._context.space, archs)))
        value, beyond = learned.fit.predict(x), learned.beyond(x)
        lo, hi = learned.interval(value, beyond) or (None, None)
        level = None if lo is None else LEVEL
        version = f"calibrated-1 {learned.digest}"
        return CostBatch(value, lo, hi, level, beyond, "predicted", self.unit, version)

    def fit(self, archs: Sequence[Arch], values: Float) -> Self:
        """Learn from qualities, shape (n,), instead of those of the file; replaces the last fit.

        Raises:
            CostError: fewer than eight different archs.
        """
        own = Archs.of(self._context.space, archs)
        labels = Labels.of(self._in_whole(own), np.asarray(values, dtype=np.float64))
        self._learn(labels, "given subnets")
        self._given = True
        doubt = self._doubt(self._found())
        if doubt is not None:
            _LOG.warning("%s", doubt)
        return self

    def fit_report(self) -> FitReport | None:
        """Return how well it does on subnets that it was not fitted on."""
        if self.learned_ is None and self._path is None:
            return None
        return self._found().report

    def save(self, folder: Path) -> None:
        """Write options, fit, interval and figures as JSON."""
        learned = self._found()
        named = {
            "space": self._context.space.name, "options": self._options, "given": self._given,
        }  # fmt: skip
        content = named | learned.to_dict()
        (folder / _FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, context: CostContext) -> Self:
        """Read `save` back.

        Raises:
            CostError: there is no such model, or it was fitted for another space.
        """
        try:
            content = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            space = content["space"]
            model = cls(context, **content["options"])
            model._given = bool(content["given"])
            model.learned_ = Learned.of_dict(content, model._kind)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CostError(
                f"{folder}: no calibrated proxy there ({error}); name a folder that `save` wrote"
            ) from error
        if space != context.space.name:
            raise CostError(
                f"{folder}: calibrated for the space {space}, not for {context.space.name}; load "
                "it with the space that it was fitted for"
            )
        return model

    def _doubt(self, learned: Learned) -> str | None:
        """Why it should not be used, None where there is no reason or nobody wants to know."""
        reason = learned.comparison.refusal if self._refuse else None
        if reason is None:
            return None
        named = ", ".join(self._specs)
        return (
            f"{self.name}: {named} cannot stand for quality here: {reason} ({learned.comparison})"
        )

    def _found(self) -> Learned:
        if self.learned_ is None and self._path is not None:
            labels = labels_of_file(self._path, self._options["prompt"], self._context)
            self._learn(labels, f"subnets of {self._path.name}")
        if self.learned_ is None:
            raise CostError(
                f"{self.name} has learned from nothing yet: no evaluated subnets lie beside the "
                "supernet; name a file with --set cost.calibrated.archs=FILE, or make one with "
                "`hwnas evaluate --archs`"
            )
        return self.learned_

    def _learn(self, labels: Labels, origin: str) -> None:
        labels = _fewer(labels, self._options["most"])
        if len(labels) < _FEWEST:
            raise CostError(
                f"{self.name}: {len(labels)} evaluated subnets; expected at least {_FEWEST} to "
                "learn from: evaluate more of them"
            )
        archs = Archs(self._space, labels.archs.matrix)  # of the same space, but another object
        x = self._columns(archs)
        own: list[int] = [quality_sign(model) for model in self._models]
        signs = own + [1] * (x.shape[1] - len(own))
        examples = Examples(archs.ids, x, labels.y, signs, self._counts.of(archs), origin)
        self.learned_ = learn(self._kind, examples, unit=self.unit)

    def _columns(self, archs: Archs) -> Float:
        """Values of the proxies and, for a ridge regression, the counts; shape (n, p)."""
        columns = [model.evaluate(archs) for model in self._models]
        if self._kind == "ridge":
            columns += self._counts.of(archs).values()
        return np.stack(columns, axis=1)

    def _check(self) -> None:
        """Refuse options that make no sense, all at once."""
        options = self._options
        problems = []
        if options["fit"] not in KINDS:
            problems.append(f"fit is {options['fit']!r}, expected {' or '.join(KINDS)}")
        if options["fit"] != "ridge" and len(options["proxy"]) != 1:
            problems.append(
                f"{len(options['proxy'])} proxies; expected one, or several with fit=ridge"
            )
        if not options["proxy"] or self.name in options["proxy"]:
            problems.append(f"proxy is {options['proxy']}; expected other cost models")
        if options["prompt"] not in ("box", "point"):
            problems.append(f"prompt is {options['prompt']!r}, expected box or point")
        if not isinstance(options["most"], int) or options["most"] < _FEWEST:
            problems.append(f"most is {options['most']!r}, expected {_FEWEST} or more")
        strangers = sorted({*options["options"]} - {*options["proxy"]})
        if strangers:
            problems.append(f"options are of {', '.join(strangers)}, which proxy does not name")
        if problems:
            raise CostError(f"{self.name}: " + "; ".join(problems))


def _widened(context: CostContext, space: SearchSpace) -> CostContext:
    """The context for the whole space: labels may lie outside of a restricted one."""
    if space is context.space:
        return context

    def passed_on(name: str) -> Any:
        given = getattr(context, name) is not None
        return partial(context.require, name, by="calibrated") if given else None

    return replace(context, space=space, supernet=passed_on("supernet"), data=passed_on("data"))


def _fewer(labels: Labels, most: int) -> Labels:
    """At most so many labels, those whose ids come first by their sha256."""
    if len(labels) <= most:
        return labels
    ids = labels.archs.ids
    ranked = sorted(range(len(ids)), key=lambda i: hashlib.sha256(ids[i].encode()).digest())
    kept = np.sort(np.array(ranked[:most], dtype=np.intp))
    return Labels(labels.archs.take(kept), labels.y[kept])
