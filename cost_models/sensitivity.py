"""What low bits cost a network, group by group: a quality that is a sum, in a moment for each arch.

For every group of tensors that share a bit-width (q, k and v are one) and every option, the error
that this group alone makes; an arch is the sum of its groups. Kinds:

    gradient  c = sum over outputs of (dL/dY (Y^ - Y))^2, Y^ with weights and inputs quantized
    sqnr      c = E[(Y^ - Y)^2] / E[Y^2], the noise-to-signal ratio of the output: no loss needed
    hessian   c = max(tr H, 0) / n |Q(W) - W|^2, of weights alone; traces by Hutchinson

Sources: `gradient` is the default score of NVIDIA ModelOpt's AutoQuantize; `hessian` is HAWQ-V2
(Dong et al., 2020). Ours: means over images instead of sums, the errors of dropped blocks, heads
and MLP units by the same formulas, and scaling with the width.

A surrogate: errors are taken one at a time on the inputs of the floating-point network, and add up
neither at 2 to 3 bits nor after training with the quantizers on. Nothing in it compares
resolutions; freeze that gene.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cost_models.sensitivity_terms import ErrorTable, ErrorTerm, Scale
from hwnas.cost import CostBatch, CostContext, Direction
from hwnas.cost.remembering import Records
from hwnas.data.scores import mean_with_error
from hwnas.errors import CostError
from hwnas.space import Arch, Archs

__all__ = ["ErrorTerms", "Kind", "Sensitivity"]

Float = NDArray[np.float64]
Kind = Literal["gradient", "sqnr", "hessian"]

_UNITS: dict[str, str] = {
    "gradient": "loss increase (surrogate)",
    "sqnr": "NSR",
    "hessian": "loss increase (surrogate)",
}
_VERSION = 1


@runtime_checkable
class ErrorTerms(Protocol):
    """A supernet that measures its own errors; SAM supernets are measured by ours."""

    def error_terms(
        self, data: Any, *, kind: Kind, resolution: int | None, images: int, seed: int
    ) -> Sequence[ErrorTerm]:
        """Return the errors of every group, at every option that the space was declared with.

        `resolution` is None in a space without a gene of that role.
        """
        ...


class Sensitivity:
    """Sum over groups of the errors that their bit-widths make.

    Args:
        context: Gives supernet and data.
        kind: `gradient`, `sqnr` or `hessian`.
        images: Images that errors are averaged over; where the data has fewer, crops make up.
        probes: Random vectors an image of `hessian`.
        tables: JSON file of `save`, which spares the measuring, and has the scale, if it was found;
            made for other weights, images or options, it is refused.

    The interval is one standard error over images to either side; with one image there is none.

    Raises:
        CostError: an option makes no sense, or `tables` does not fit.
    """

    name = "sensitivity"
    direction: Direction = "min"
    fidelity = "proxy"
    needs = ("supernet", "data")

    def __init__(
        self, context: CostContext, *, kind: Kind = "gradient", images: int = 64, probes: int = 4,
        tables: str | None = None,
    ) -> None:  # fmt: skip
        if kind not in get_args(Kind):
            raise CostError(f"{self.name}: kind is {kind!r}; expected {', '.join(get_args(Kind))}")
        if min(images, probes) < 1:
            raise CostError(f"{self.name}: images={images}, probes={probes}; expected 1 or more")
        self.unit = _UNITS[kind]
        self._context, self._kind, self._images, self._probes = context, kind, images, probes
        self._resolution = next((g.name for g in context.space.genes if g.role == "resolution"), "")
        self._tables: dict[int | None, ErrorTable] = {}
        self._scale: Scale | None = None
        self._records: Records | None = None
        self.input_files = () if tables is None else (tables,)
        if tables is not None:
            self._tables = self._read(Path(tables))

    def remember_in(self, records: Records) -> None:
        """Take the errors of images from `records`, and add those of each image as it is done.

        What a supernet measures by itself is one record for each resolution.
        """
        self._records = records

    def terms(self) -> list[tuple[str, ...]]:
        """The genes of each term, the resolution among them; measured first if need be."""
        table = next(iter(self._tables.values()), None) or self._table(self._resolutions[-1])
        shared = (self._resolution,) if self._resolution else ()
        return [(*shared, *term.genes) for term in table.terms]

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return sums of errors, shape (n,)."""
        own = Archs.of(self._context.space, archs)
        out = np.empty(len(own))
        for rows, table in self._split(own):
            out[rows] = self._factor * table.totals(own.take(rows))
        return out

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return the same with one standard error over images."""
        own = Archs.of(self._context.space, archs)
        values = self.evaluate(own)
        errors: list[float | None] = [None] * len(own)
        for rows, table in self._split(own):
            images = self._factor * table.by_image(own.take(rows)).T
            for row, sums in zip(rows, images, strict=True):
                errors[row] = mean_with_error(sums.tolist())[1]
        return CostBatch.of_means(
            list(zip(values.tolist(), errors, strict=True)), fidelity="proxy", unit=self.unit,
            model_version=f"sensitivity-{_VERSION} {json.dumps(self._key)} x {self._factor:g}",
        )  # fmt: skip

    def breakdown(self, arch: Arch) -> dict[str, float]:
        """Return the error of each group of an arch."""
        own = Archs.of(self._context.space, [arch])
        parts = next(table for _, table in self._split(own)).parts(own)
        return {name: self._factor * error for name, error in parts.items()}

    def matrices(self, resolution: int | None = None) -> list[dict[str, Any]]:
        """Return the error of each group at each option, for reports; the largest resolution.

        Each has `name`, `genes`, `options` of each gene and `errors` of that shape; `clipped` says
        how many entries were moved so that more bits never cost more.
        """
        at = self._resolutions[-1] if resolution is None else resolution
        found = self._table(at).to_dict()
        for one in found:
            one["errors"] = (self._factor * np.array(one["errors"])).tolist()
        return found

    def rescaled(self, factor: float, *, unit: str, against: str) -> Sensitivity:
        """The same with every error times a positive factor, which replaces an earlier one.

        Source: the project's specification of cost models, section 9.3: the median ratio of the
        measured loss of single groups to their error. It changes no order.

        Raises:
            CostError: the factor is not positive and finite.
        """
        if not (0 < factor < float("inf")):
            raise CostError(f"{self.name}: a scale of {factor}; expected a positive number")
        other = copy.copy(self)
        other._scale, other.unit = Scale(factor, unit, against), unit
        return other

    @property
    def note(self) -> str:
        """What belongs to the number."""
        scaled = "" if self._scale is None else f", scaled to {self._scale.against}"
        return f"{self._kind} on {self._images} images, errors one at a time{scaled}"

    def save(self, path: str | Path) -> None:
        """Write the errors that were measured so far as JSON, image by image."""
        content = {
            "sensitivity": _VERSION,
            "key": self._key,
            "scale": None if self._scale is None else asdict(self._scale),
            "tables": [
                {"resolution": at, "terms": [_written(term) for term in table.whole]}
                for at, table in self._tables.items()
            ],
        }
        Path(path).write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")

    @property
    def _factor(self) -> float:
        return 1.0 if self._scale is None else self._scale.factor

    @property
    def _key(self) -> dict[str, Any]:
        """What the errors depend on."""
        context, space = self._context, self._context.space
        return {
            "space": space.name,
            "options": {gene.name: list(gene.options) for gene in space.whole.genes},
            "supernet": context.supernet_source,
            "data": context.data_source,
            "kind": self._kind,
            "images": self._images,
            "probes": self._probes if self._kind == "hessian" else None,
            "seed": context.seed,
        }

    def _read(self, path: Path) -> dict[int | None, ErrorTable]:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            key, tables, scale = content["key"], content["tables"], content.get("scale")
            self._scale = None if scale is None else Scale(**scale)
            found = {
                table["resolution"]: ErrorTable(
                    self._context.space, [_term(term) for term in table["terms"]]
                )
                for table in tables
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CostError(f"{path}: not a file of sensitivities: {error}") from error
        own = self._key
        wrong = [name for name, value in own.items() if key.get(name) != value]
        if wrong:
            raise CostError(
                f"{path}: made for other {', '.join(wrong)}; measure again and save over it"
            )
        self.unit = self.unit if self._scale is None else self._scale.unit
        return found

    @property
    def _resolutions(self) -> tuple[int | None, ...]:
        if not self._resolution:
            return (None,)
        return tuple(int(o) for o in self._context.space.gene(self._resolution).options)

    def _split(self, archs: Archs) -> list[tuple[NDArray[np.intp], ErrorTable]]:
        """Rows of each resolution with its table."""
        if not len(archs):
            return []
        if not self._resolution:
            return [(np.arange(len(archs)), self._table(None))]
        at = archs.matrix[:, self._context.space.column(self._resolution)]
        return [
            (np.flatnonzero(at == option), self._table(self._resolutions[option]))
            for option in np.unique(at)
        ]

    def _table(self, resolution: int | None) -> ErrorTable:
        if resolution not in self._tables:
            if resolution not in self._resolutions:
                raise CostError(
                    f"{self.name}: no resolution {resolution}; expected one of {self._resolutions}"
                )
            table = ErrorTable(self._context.space, self._measured(resolution))
            self._covered(table)
            self._tables[resolution] = table
        return self._tables[resolution]

    def _measured(self, resolution: int | None) -> Sequence[ErrorTerm]:
        supernet = self._context.require("supernet", by=self.name)
        data = self._context.require("data", by=self.name)
        if isinstance(supernet, ErrorTerms):
            return self._measured_itself(supernet, data, resolution)
        from cost_models.sensitivity_sam import SamErrors
        from hwnas.supernet.sam_supernet import SamSupernet

        if not isinstance(supernet, SamSupernet) or resolution is None:
            raise CostError(
                f"{self.name} measures SAM supernets; {type(supernet).__name__} has no method "
                "error_terms (cost_models.sensitivity.ErrorTerms) to measure itself"
            )
        errors = SamErrors(
            supernet, self._context.space.whole, kind=self._kind, probes=self._probes,
            seed=self._context.seed,
        )  # fmt: skip
        return errors.terms(data, resolution=resolution, images=self._images, records=self._records)

    def _measured_itself(
        self, supernet: ErrorTerms, data: Any, resolution: int | None
    ) -> Sequence[ErrorTerm]:
        key = f"errors/{resolution}"
        if self._records is not None and key in self._records:
            return [_term(term) for term in self._records[key]["terms"]]
        found = supernet.error_terms(
            data, kind=self._kind, resolution=resolution, images=self._images,
            seed=self._context.seed,
        )  # fmt: skip
        if self._records is not None:
            self._records.add(key, {"terms": [_written(term) for term in found]})
        return found

    def _covered(self, table: ErrorTable) -> None:
        """Refuse genes that change the network and no term."""
        known = {gene for term in table.terms for gene in term.genes} | {self._resolution}
        space = self._context.space
        free = [g.name for g in space.genes if len(g.options) > 1 and g.name not in known]
        if free:
            raise CostError(
                f"{self.name} says nothing about {', '.join(free[:4])}; freeze them "
                "(space.freeze) or use another quality"
            )


def _written(term: ErrorTerm) -> dict[str, Any]:
    return {
        "name": term.name,
        "genes": list(term.genes),
        "falling": list(term.falling),
        "values": term.values.tolist(),
    }


def _term(content: dict[str, Any]) -> ErrorTerm:
    return ErrorTerm(
        content["name"], tuple(content["genes"]), np.array(content["values"], dtype=np.float64),
        tuple(content["falling"]),
    )  # fmt: skip
