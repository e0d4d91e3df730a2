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
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cost_models.latency_baselines import FitPredict, baselines_of
from cost_models.latency_columns import (
    BlockColumns,
    Columns,
    GeneColumns,
    LayerColumns,
    RooflineColumns,
    SizeColumns,
    is_time,
)
from cost_models.latency_fit import Chosen, Material, choose, combined
from cost_models.latency_linear import LinearFit
from cost_models.latency_range import Range
from cost_models.latency_state import MODEL_FILE, check_belongs, read_folder, write_folder
from cost_models.latency_trees import BoostedRatio
from cost_models.quality_features import QualityFeatures
from cost_models.quality_labels import Labels
from hwnas.calibration import conformal_quantile, kendall_tau, spearman_rho
from hwnas.cost import CostBatch, CostContext, Direction, FitReport
from hwnas.cost.lowering import lower
from hwnas.cost.prompts import decoder_runs
from hwnas.errors import CostError, HwnasError
from hwnas.space import Arch, Archs

if TYPE_CHECKING:
    from cost_models.latency_kernels import KernelTimes

__all__ = ["LatencyXGB"]

Float = NDArray[np.float64]
LEVEL = 0.9
OF_TIMES = ("sum of kernels", "roofline by kind")  # bases whose columns add up to a time
_BEYOND = 2.0  # how much wider, in logarithms, an interval is where the model extrapolates


class LatencyXGB:
    """Milliseconds as they were measured on a device, with an interval that covers 90 %.

    Args:
        context: space, and where they are known the device and a store of measured kernels.
        prompts: how many prompts a measured time includes.
        only: names of the bases to choose from; all that the context allows by default.

    Raises:
        CostError: an option makes no sense.
    """

    name = "latency"
    unit = "ms"
    direction: Direction = "min"
    fidelity = "predicted"

    def __init__(self, context: CostContext, *, prompts: int = 1, only: Sequence[str] = ()) -> None:
        self.prompts = decoder_runs("system", prompts, by=self.name)
        self._measured_prompts = self.prompts
        self._context = context
        self._only = tuple(only)
        self._features = QualityFeatures(context.space)
        self._kernels: KernelTimes | None = None
        self.chosen_: Chosen | None = None
        self.range_: Range | None = None
        self.report_: FitReport | None = None
        self.quantile_: float | None = None
        self.digest_ = ""
        self.labels_: Float = np.empty(0)
        self._prompted: tuple[int, LatencyXGB] | None = None
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
        return self._value(Archs.of(self._context.space, archs))

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return milliseconds with an interval, wider where the model extrapolates.

        Raises:
            CostError: the model has learned from nothing yet.
        """
        own = Archs.of(self._context.space, archs)
        value = self._value(own)
        beyond = self._fitted_range().beyond(self._sizes(own), self._options(own))
        if not self._as_measured:
            beyond = np.ones_like(beyond)
        version = f"latency-xgb-1 {self.digest_} prompts={self.prompts}"
        if self.quantile_ is None:
            return CostBatch(value, None, None, None, beyond, "predicted", self.unit, version)
        reach = np.exp(np.where(beyond, _BEYOND, 1.0) * self.quantile_)
        lo, hi = value / reach, value * reach
        return CostBatch(value, lo, hi, LEVEL, beyond, "predicted", self.unit, version)

    def fit(self, archs: Sequence[Arch], values: Float) -> Self:
        """Learn from measured times in ms; replaces what was learned before.

        Raises:
            CostError: fewer than eight different archs, or a time that is not positive.
        """
        y = np.asarray(values, dtype=np.float64)
        if not (np.isfinite(y) & (y > 0)).all():
            raise CostError(f"{self.name}: times must be positive and finite; leave out failures")
        labels = Labels.of(Archs.of(self._context.space, archs), y)
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
        return baselines_of(self._context, self._columns, self.prompts)

    def total_macs(self, archs: Sequence[Arch]) -> Float | None:
        """Return MACs, shape (n,); None where the space has no layers."""
        own = Archs.of(self._context.space, archs)
        return None if self._size_columns is None else self._sizes(own)[:, 0] * 1e9

    # Saving

    def save(self, folder: Path) -> None:
        """Write the model; see `cost_models.latency_state` for the files."""
        chosen = self._fitted()
        arrays = {f"base.{n}": a for n, a in chosen.fit.to_arrays().items()}
        if chosen.ridge is not None:
            arrays |= {f"ridge.{n}": a for n, a in chosen.ridge.to_arrays().items()}
        arrays |= {f"range.{n}": a for n, a in self._fitted_range().to_arrays().items()}
        arrays |= {"predicted": chosen.predicted, "labels": self.labels_}
        if self._kernels is not None:
            arrays |= {f"kernels.{n}": a for n, a in self._kernels.to_arrays().items()}
        device = self._context.device
        content = {
            "name": "latency_xgb", "unit": self.unit, "space": self._context.space.name,
            "device": None if device is None else device.key,
            "fingerprint": None if device is None else device.fingerprint,
            "prompts": self._measured_prompts, "base": chosen.base, "residual": chosen.residual,
            "columns": list(self._columns[chosen.base].names),
            "features": list(self._feature_names), "tried": dict(chosen.tried),
            "quantile": self.quantile_, "level": LEVEL, "trained_on": self.digest_,
            "report": None if self.report_ is None else self.report_.to_dict(),
        }  # fmt: skip
        trees = chosen.trees
        write_folder(
            folder, content, arrays, trees.save if isinstance(trees, BoostedRatio) else None
        )

    @classmethod
    def load(cls, folder: Path, context: CostContext, *, prompts: int | None = None) -> Self:
        """Read `save` back, for as many prompts as were measured or for others.

        Raises:
            CostError: there is no such model, it was fitted for another space or device, or it
                cannot say what another number of prompts costs.
        """
        content, arrays, trees = read_folder(folder)
        check_belongs(folder, content, context)
        if prompts not in (None, content["prompts"]) and content["base"] not in OF_TIMES:
            raise CostError(
                f"{folder}: fitted on times of {content['prompts']} prompts, and its "
                f"{content['base']} do not tell what {prompts} cost; ask for {content['prompts']}"
            )
        try:
            model = cls(context, prompts=content["prompts"])
            model.prompts = content["prompts"] if prompts is None else prompts
            model._restore(content, arrays, trees)
        except (KeyError, TypeError, ValueError) as error:
            raise CostError(
                f"{folder}: the latency predictor cannot be read ({error!r}); calibrate again"
            ) from error
        own = (list(model._columns[content["base"]].names), list(model._feature_names))
        if (content["columns"], content["features"]) != own:
            raise CostError(
                f"{folder}: a latency predictor for another version of {context.space.name}: its "
                "columns have other names; calibrate again"
            )
        model.origin_ = folder
        return model

    def _restore(
        self, content: dict[str, Any], arrays: dict[str, NDArray[Any]], trees: Path | None
    ) -> None:
        if any(name.startswith("kernels.") for name in arrays):
            from cost_models.latency_kernels import KernelTimes

            self._kernels = KernelTimes.of_arrays(_under("kernels.", arrays))
        ridge = _under("ridge.", arrays)
        self.chosen_ = Chosen(
            content["base"],
            content["residual"],
            self._columns[content["base"]].fitted(_under("base.", arrays)),
            LinearFit.of_arrays(ridge) if ridge else None,
            None if trees is None else BoostedRatio.load(trees),
            arrays["predicted"],
            content["tried"],
        )
        self.labels_ = arrays["labels"]
        self.range_ = Range.of_arrays(_under("range.", arrays))
        self.quantile_, self.digest_ = content["quantile"], content["trained_on"]
        self.report_ = None if content["report"] is None else FitReport(**content["report"])

    # What it is made of

    @cached_property
    def _one_hot(self) -> GeneColumns:
        return GeneColumns(self._context, log=False)

    @cached_property
    def _layers(self) -> LayerColumns | None:
        """Sums over layers; None where the space has none."""
        space = self._context.space
        try:
            lower(space, space.smallest())
        except HwnasError:
            return None
        return LayerColumns(self._context, prompts=self._measured_prompts)

    @cached_property
    def _columns(self) -> Mapping[str, Columns]:
        """Every base that space and device allow, in the order of preference."""
        found: list[Columns] = []
        if self._layers is not None:
            if self._context.device is not None:
                found += self._kernel_columns()
                found.append(RooflineColumns(self._context, prompts=self._measured_prompts))
            found.append(self._layers)
        else:
            found.append(BlockColumns(self._context))
        found += [self._one_hot, GeneColumns(self._context, log=True)]
        return {columns.name: columns for columns in found}

    def _kernel_columns(self) -> list[Columns]:
        from cost_models.latency_kernels import KernelColumns, KernelTimes

        if self._kernels is None and self._context.store is not None:
            self._kernels = KernelTimes.fitted(self._context)
        if self._kernels is None:
            return []
        return [KernelColumns(self._context, self._kernels, prompts=self._measured_prompts)]

    @property
    def _feature_names(self) -> tuple[str, ...]:
        totals = () if self._layers is None else self._layers.names
        return (*self._features.names, *totals)

    def _seen_by_trees(self, own: Archs) -> Float:
        genes = self._features.matrix(own)
        if self._layers is None:
            return genes
        return np.concatenate([genes, self._layers.matrix(own)], axis=1)

    @cached_property
    def _size_columns(self) -> SizeColumns | None:
        if self._layers is None:
            return None
        return SizeColumns(self._context, prompts=self._measured_prompts)

    def _sizes(self, own: Archs) -> Float:
        """Total GMACs and MB, (n, 2); no columns where the space has no layers."""
        columns = self._size_columns
        return np.zeros((len(own), 0)) if columns is None else columns.matrix(own)

    def _options(self, own: Archs) -> NDArray[np.int16]:
        """Indexes of the options in the whole space, (n, genes)."""
        return self._features.in_whole(own).matrix

    def _material(self, labels: Labels) -> Material:
        columns = self._columns
        return Material(
            tuple(labels.archs.ids),
            labels.y,
            {name: c.matrix(labels.archs) for name, c in columns.items()},
            {name: c.fit for name, c in columns.items()},
            self._one_hot.matrix(labels.archs),
            self._seen_by_trees(labels.archs),
        )

    def _keep(self, chosen: Chosen, labels: Labels) -> None:
        self.chosen_, self.labels_ = chosen, labels.y
        counts = [len(gene.options) for gene in self._features.whole.genes]
        self.range_ = Range.of(self._sizes(labels.archs), self._options(labels.archs), counts)
        self.quantile_ = conformal_quantile(np.log(labels.y / chosen.predicted), LEVEL)
        digest = hashlib.sha256(labels.archs.matrix.tobytes() + labels.y.tobytes())
        self.digest_ = digest.hexdigest()[:16]
        self.report_ = FitReport(
            len(labels.y), len(labels.y), kendall_tau(labels.y, chosen.predicted),
            spearman_rho(labels.y, chosen.predicted),
            float(np.abs(labels.y - chosen.predicted).mean()), self.unit, "measured subnets",
            "folds of them, each by a fit without it",
        )  # fmt: skip

    def _value(self, own: Archs) -> Float:
        chosen = self._fitted()
        base = self._columns[chosen.base].matrix(own)
        genes = base if chosen.ridge is None else self._one_hot.matrix(own)
        seen = base if chosen.trees is None else self._seen_by_trees(own)
        value = combined(chosen.fit, chosen.ridge, chosen.trees, base, genes, seen)
        return value if self._as_measured else value * self._more_prompts(chosen.base, own)

    @property
    def _as_measured(self) -> bool:
        return self.prompts == self._measured_prompts

    def _more_prompts(self, base: str, own: Archs) -> Float:
        """What other prompts than those measured change, by the plain sum of times, (n,).

        The fitted weights do not serve: what runs once a prompt does not vary on its own in times
        of one number of prompts, so its weight is anything.
        """
        if self._prompted is None or self._prompted[0] != self.prompts:
            twin = LatencyXGB(self._context, prompts=self.prompts)
            twin._kernels = self._kernels
            self._prompted = self.prompts, twin
        wanted = self._prompted[1]._columns[base].matrix(own)
        there = self._columns[base]
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


def _under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
