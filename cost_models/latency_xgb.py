"""Latency of a device, predicted from measurements: structure first, boosted trees for the rest.

    latency = sum of columns x weights      times exp(residual)

The columns are times of kernels, times of the roofline, sums over layers, or a table of genes,
whichever cross-validation prefers; the residual is nothing, a ridge regression on genes, or
XGBoost on ln(measured / sum). Source of the order: on public tables an additive model fitted on
whole networks beats trees at every number of labels below some hundreds, and trees on additive
features win where widths multiply (Lee et al., HELP, 2021, and the tables that it publishes).

The interval covers 90 %, read off cross-validated log residuals. Where an architecture lies outside
of what was measured (an option that no measured one has, more or fewer MACs or bytes than any of
them), it is flagged and its interval is twice as wide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cost_models.latency_baselines import FitPredict, baselines_of
from cost_models.latency_bases import Bases
from cost_models.latency_columns import is_time
from cost_models.latency_fit import Chosen, Material, choose, combined
from cost_models.latency_linear import LinearFit
from cost_models.latency_range import Range
from cost_models.latency_state import (
    MODEL_FILE,
    check_belongs,
    nested,
    read_folder,
    under,
    write_folder,
)
from cost_models.latency_transfer import ENOUGH, FEWEST_SHOTS, TransferFit
from cost_models.latency_trees import BoostedRatio
from cost_models.quality_labels import Labels
from hwnas.calibration import conformal_quantile, kendall_tau, spearman_rho
from hwnas.calibration.accuracy import Accuracy
from hwnas.cost import CostBatch, CostContext, Direction, FitReport
from hwnas.cost.prompts import decoder_runs
from hwnas.device import from_dict
from hwnas.errors import CostError
from hwnas.space import Arch, Archs

__all__ = ["LatencyXGB"]

Float = NDArray[np.float64]
LEVEL = 0.9
OF_TIMES = ("sum of kernels", "roofline by kind")  # bases whose columns add up to a time
_BEYOND = 2.0  # how much wider, in logarithms, an interval is where the model extrapolates
_CHUNK = 8192  # archs priced at once: what they need fits a cache


class LatencyXGB:
    """Milliseconds as they were measured on a device, with an interval that covers 90 %.

    Args:
        context: space, and where they are known the device and a store of measured kernels.
        prompts: how many prompts a measured time includes.
        only: names of the bases to choose from; all that the context allows by default.
        sources: predictors of other devices to learn from (`cost_models.latency_transfer`).

    Raises:
        CostError: an option makes no sense.
    """

    name = "latency"
    unit = "ms"
    direction: Direction = "min"
    fidelity = "predicted"

    def __init__(
        self,
        context: CostContext,
        *,
        prompts: int = 1,
        only: Sequence[str] = (),
        sources: Mapping[str, LatencyXGB] | None = None,
    ) -> None:
        self.prompts = decoder_runs("system", prompts, by=self.name)
        self.sources = dict(sources or {})
        self._measured_prompts = self.prompts
        self._context = context
        self._only = tuple(only)
        self._bases = Bases(context, prompts=self.prompts, sources=self.sources)
        self.chosen_: Chosen | None = None
        self.range_: Range | None = None
        self.report_: FitReport | None = None
        self.quantile_: float | None = None
        self.digest_ = ""
        self.labels_: Float = np.empty(0)
        self._prompted: tuple[int, Bases] | None = None
        self.origin_: Path | None = None

    @property
    def input_files(self) -> tuple[Path, ...]:
        """The file of the fitted model, where it was loaded."""
        return () if self.origin_ is None else (self.origin_ / MODEL_FILE,)

    @property
    def note(self) -> str:
        """What belongs to the number."""
        return f"{self.prompts} prompt{'s' if self.prompts > 1 else ''}"

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return milliseconds, shape (n,).

        Raises:
            CostError: the model has learned from nothing yet.
        """
        return self._priced(Archs.of(self._context.space, archs), flags=False)[0]

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return milliseconds with an interval, wider where the model extrapolates.

        Raises:
            CostError: the model has learned from nothing yet.
        """
        value, beyond = self._priced(Archs.of(self._context.space, archs), flags=True)
        version = f"latency-xgb-1 {self.digest_} prompts={self.prompts}"
        if self.quantile_ is None:
            return CostBatch(value, None, None, None, beyond, "predicted", self.unit, version)
        reach = np.exp(np.where(beyond, _BEYOND, 1.0) * self.quantile_)
        lo, hi = value / reach, value * reach
        return CostBatch(value, lo, hi, LEVEL, beyond, "predicted", self.unit, version)

    def fit(self, archs: Sequence[Arch], values: Float) -> Self:
        """Learn from measured times in ms; replaces what was learned before.

        Raises:
            CostError: fewer than eight different archs (five with `sources`), or a time that is
                not positive.
        """
        y = np.asarray(values, dtype=np.float64)
        if not (np.isfinite(y) & (y > 0)).all():
            raise CostError(f"{self.name}: times must be positive and finite; leave out failures")
        labels = Labels.of(Archs.of(self._context.space, archs), y)
        if self.sources:
            chosen = self._transferred(labels)
        else:
            chosen = choose(self._material(labels), BoostedRatio.fitted, only=self._only)
        self._keep(chosen, labels)
        return self

    def fit_report(self) -> FitReport | None:
        """Return how well it does on subnets that it was not fitted on."""
        return self.report_

    def judged(self, report: FitReport) -> Self:
        """Attach the judgement of somebody who held subnets out; return the model."""
        self.report_ = report
        return self

    def cross_validated(self) -> tuple[Float, Float]:
        """Return the labels in ms and what a fit without each says of it, both (n,)."""
        return self.labels_, self._fitted().predicted

    def structure(self) -> str:
        """What was chosen, in words: `sum of kernels + boosted trees`."""
        chosen = self._fitted()
        return chosen.base if chosen.residual == "none" else f"{chosen.base} + {chosen.residual}"

    def tried(self) -> dict[str, float]:
        """Cross-validated MAPE in percent of everything that was tried."""
        return dict(self._fitted().tried)

    def baselines(self) -> dict[str, FitPredict]:
        """Return what to compare with: functions (archs, ms, other archs) -> ms, by name."""
        alone = Bases(self._context, prompts=self.prompts) if self.sources else self._bases
        return baselines_of(self._context, alone.columns, self.prompts)

    def total_macs(self, archs: Sequence[Arch]) -> Float | None:
        """Return MACs, shape (n,); None where the space has no layers."""
        sizes = self._bases.sizes(Archs.of(self._context.space, archs))
        return sizes[:, 0] * 1e9 if sizes.shape[1] else None

    # Saving

    def save(self, folder: Path) -> None:
        """Write the model; see `cost_models.latency_state` for the files."""
        chosen = self._fitted()
        arrays = nested("base", chosen.fit.to_arrays())
        if chosen.ridge is not None:
            arrays |= nested("ridge", chosen.ridge.to_arrays())
        arrays |= nested("range", self._fitted_range().to_arrays())
        arrays |= {"predicted": chosen.predicted, "labels": self.labels_}
        kernels = None if self.sources else self._bases.kernels
        if kernels is not None:
            arrays |= nested("kernels", kernels.to_arrays())
        device = self._context.device
        content = {
            "name": "latency_xgb", "unit": self.unit, "space": self._context.space.name,
            "device": None if device is None else device.key,
            "fingerprint": None if device is None else device.fingerprint,
            "prompts": self._measured_prompts, "base": chosen.base, "residual": chosen.residual,
            "columns": list(self._bases.columns[chosen.base].names),
            "features": list(self._bases.feature_names), "tried": dict(chosen.tried),
            "sources": {name: source.device_data() for name, source in self.sources.items()},
            "quantile": self.quantile_, "level": LEVEL, "trained_on": self.digest_,
            "report": None if self.report_ is None else self.report_.to_dict(),
        }  # fmt: skip
        parts = {f"source-{i}": s.save for i, s in enumerate(self.sources.values())}
        if isinstance(chosen.trees, BoostedRatio):
            parts["trees"] = chosen.trees.save
        write_folder(folder, content, arrays, parts)

    def device_data(self) -> dict[str, Any] | None:
        """Return the profile that the model was fitted for, as a device file holds it."""
        device = self._context.device
        return None if device is None else device.to_dict()

    @classmethod
    def load(cls, folder: Path, context: CostContext, *, prompts: int | None = None) -> Self:
        """Read `save` back, for as many prompts as were measured or for others.

        Raises:
            CostError: there is no such model, it was fitted for another space or device, or it
                cannot say what another number of prompts costs.
        """
        content, arrays, parts = read_folder(folder)
        check_belongs(folder, content, context)
        if prompts not in (None, content["prompts"]) and content["base"] not in OF_TIMES:
            raise CostError(
                f"{folder}: fitted on times of {content['prompts']} prompts, and its "
                f"{content['base']} do not tell what {prompts} cost; ask for {content['prompts']}"
            )
        try:
            model = cls(
                context, prompts=content["prompts"], sources=cls._sources(content, parts, context)
            )
            model.prompts = content["prompts"] if prompts is None else prompts
            model._restore(content, arrays, parts.get("trees"))
        except (KeyError, TypeError, ValueError) as error:
            raise CostError(
                f"{folder}: the latency predictor cannot be read ({error!r}); calibrate again"
            ) from error
        bases = model._bases
        own = (list(bases.columns[content["base"]].names), list(bases.feature_names))
        if (content["columns"], content["features"]) != own:
            raise CostError(
                f"{folder}: a latency predictor for another version of {context.space.name}: its "
                "columns have other names; calibrate again"
            )
        model.origin_ = folder
        return model

    @classmethod
    def _sources(
        cls, content: Mapping[str, Any], parts: Mapping[str, Path], context: CostContext
    ) -> dict[str, LatencyXGB]:
        """Predictors of other devices that lie in a model's folder."""
        found = {}
        for i, (name, data) in enumerate(content["sources"].items()):
            device = None if data is None else from_dict(data, origin=f"source {name}")
            own = CostContext(context.space, device)
            found[name] = LatencyXGB.load(parts[f"source-{i}"], own)
        return found

    def _restore(
        self, content: dict[str, Any], arrays: dict[str, NDArray[Any]], trees: Path | None
    ) -> None:
        times = under("kernels", arrays)
        if times:
            from cost_models.latency_kernels import KernelTimes

            kernels = KernelTimes.of_arrays(times)
            self._bases = Bases(self._context, prompts=self._measured_prompts, kernels=kernels)
        ridge = under("ridge", arrays)
        self.chosen_ = Chosen(
            content["base"],
            content["residual"],
            self._bases.columns[content["base"]].fitted(under("base", arrays)),
            LinearFit.of_arrays(ridge) if ridge else None,
            None if trees is None else BoostedRatio.load(trees),
            arrays["predicted"],
            content["tried"],
        )
        self.labels_ = arrays["labels"]
        self.range_ = Range.of_arrays(under("range", arrays))
        self.quantile_, self.digest_ = content["quantile"], content["trained_on"]
        self.report_ = None if content["report"] is None else FitReport(**content["report"])

    # What it is made of

    def _material(self, labels: Labels) -> Material:
        columns, own = self._bases.columns, labels.archs
        return Material(
            tuple(own.ids), labels.y, {name: c.matrix(own) for name, c in columns.items()},
            {name: c.fit for name, c in columns.items()}, self._bases.one_hot.matrix(own),
            self._bases.seen_by_trees(own),
        )  # fmt: skip

    def _transferred(self, labels: Labels) -> Chosen:
        """Fit on the tables of other devices; labels are too few to choose anything by."""
        if len(labels) < FEWEST_SHOTS:
            raise CostError(
                f"{self.name}: {len(labels)} measured architectures; expected at least "
                f"{FEWEST_SHOTS} even with other devices to learn from: measure more of them"
            )
        ((name, columns),) = self._bases.columns.items()
        fit = columns.fit(columns.matrix(labels.archs), labels.y)
        assert isinstance(fit, TransferFit)
        one = f"{list(self.sources)[fit.single]}, scaled"
        tried = {one: Accuracy.of(labels.y, fit.alone).mape}
        if fit.ways:
            tried[f"{fit.ways} ways in which they differ"] = Accuracy.of(
                labels.y, fit.left_out
            ).mape
        return Chosen(name, "none", fit, None, None, fit.left_out, tried)

    def _keep(self, chosen: Chosen, labels: Labels) -> None:
        self.chosen_, self.labels_ = chosen, labels.y
        bases = self._bases
        counts = [len(gene.options) for gene in bases.whole.genes]
        self.range_ = Range.of(bases.sizes(labels.archs), bases.options(labels.archs), counts)
        apart = np.log(labels.y / chosen.predicted)
        if self.sources:
            self.range_ = self.range_.joined([s._fitted_range() for s in self.sources.values()])
        if self.sources and len(labels) < ENOUGH:
            # which source is the right one is itself uncertain then
            self.quantile_ = _BEYOND * float(np.abs(apart).max())
        else:
            self.quantile_ = conformal_quantile(apart, LEVEL)
        digest = hashlib.sha256(labels.archs.matrix.tobytes() + labels.y.tobytes())
        self.digest_ = digest.hexdigest()[:16]
        self.report_ = FitReport(
            len(labels.y), len(labels.y), kendall_tau(labels.y, chosen.predicted),
            spearman_rho(labels.y, chosen.predicted),
            float(np.abs(labels.y - chosen.predicted).mean()), self.unit, "measured subnets",
            "folds of them, each by a fit without it",
        )  # fmt: skip

    def _priced(self, own: Archs, *, flags: bool) -> tuple[Float, NDArray[np.bool_]]:
        """Return milliseconds and, where asked for, what is extrapolated, both (n,)."""
        value, beyond = np.empty(len(own)), np.zeros(len(own), np.bool_)
        for start in range(0, len(own), _CHUNK):
            rows = slice(start, start + _CHUNK)
            chunk = own if len(own) <= _CHUNK else Archs(own.space, own.matrix[rows])
            value[rows], beyond[rows] = self._priced_chunk(chunk, flags=flags)
        return value, beyond

    def _priced_chunk(self, own: Archs, *, flags: bool) -> tuple[Float, NDArray[np.bool_] | bool]:
        chosen, bases = self._fitted(), self._bases
        base = bases.columns[chosen.base].matrix(own)
        genes = base if chosen.ridge is None else bases.one_hot.matrix(own)
        sums, seen = None, np.empty((len(own), 0), np.float32)
        if chosen.trees is not None:
            sums = None if bases.layers is None else bases.layers.matrix(own)
            seen = bases.seen_by_trees(own, sums)
        value = combined(chosen.fit, chosen.ridge, chosen.trees, base, genes, seen)
        if self._as_measured and not flags:
            return value, False
        if not self._as_measured:
            return value * self._more_prompts(chosen.base, own), True
        beyond = self._fitted_range().beyond(bases.sizes(own, sums), bases.options(own))
        beyond |= chosen.fit.beyond(base)
        return value, beyond if chosen.ridge is None else beyond | chosen.ridge.beyond(genes)

    @property
    def _as_measured(self) -> bool:
        return self.prompts == self._measured_prompts

    def _more_prompts(self, base: str, own: Archs) -> Float:
        """What other prompts than those measured change, by the plain sum of times, (n,).

        The fitted weights do not serve: what runs once a prompt does not vary on its own in times
        of one number of prompts, so its weight is anything.
        """
        if self._prompted is None or self._prompted[0] != self.prompts:
            other = Bases(self._context, prompts=self.prompts, kernels=self._bases.kernels)
            self._prompted = self.prompts, other
        wanted = self._prompted[1].columns[base].matrix(own)
        there = self._bases.columns[base]
        times = [i for i, name in enumerate(there.names) if is_time(name)]
        out: Float = wanted[:, times].sum(axis=1) / there.matrix(own)[:, times].sum(axis=1)
        return out

    def _fitted(self) -> Chosen:
        if self.chosen_ is None:
            raise CostError(
                f"{self.name} has learned from nothing yet: calibrate the device with `hwnas "
                "calibrate`, or fit the model on measured times"
            )
        return self.chosen_

    def _fitted_range(self) -> Range:
        self._fitted()
        assert self.range_ is not None
        return self.range_
