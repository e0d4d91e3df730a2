"""Architectures with their costs, as a table that people and programs read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import ConfigError
from hwnas.search.objective import Direction
from hwnas.space import Arch, Archs

__all__ = ["Column", "Design", "Designs", "Row"]

FloatArray = NDArray[np.float64]
Row = dict[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class Column:
    """One cost model in a table; `fidelity` says what kind of number it gives.

    `objective` is false where it was observed but not optimized.
    """

    name: str
    unit: str
    direction: Direction
    fidelity: str
    objective: bool = True

    @property
    def heading(self) -> str:
        """Name and unit as one word: `latency_ms`, `iou` where the unit says nothing."""
        unit = "".join(c if c.isalnum() else "_" for c in self.unit).strip("_")
        return self.name if not unit or self.name.endswith(f"_{unit}") else f"{self.name}_{unit}"


@dataclass(frozen=True, slots=True)
class Design:
    """One row of a table: an architecture, its values and, where known, their intervals."""

    arch: Arch
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]

    @property
    def id(self) -> str:
        """The arch id."""
        return self.arch.id


@dataclass(frozen=True, eq=False)
class Designs:
    """n architectures and their values, (n, n_columns), in natural signs and units.

    `lo` and `hi` have the same shape, NaN inside where a cost model gives no interval; the public
    forms (`rows`, `Design`, files) leave such ends out.
    """

    archs: Archs
    columns: tuple[Column, ...]
    values: FloatArray
    lo: FloatArray
    hi: FloatArray

    def __len__(self) -> int:
        return len(self.archs)

    def __getitem__(self, index: int) -> Design:
        if not -len(self) <= index < len(self):
            raise IndexError(f"design {index} of {len(self)}")
        values = dict(zip(self.names, self.values[index].tolist(), strict=True))
        ends = zip(self.names, self.lo[index].tolist(), self.hi[index].tolist(), strict=True)
        intervals = {name: (lo, hi) for name, lo, hi in ends if lo == lo and hi == hi}  # noqa: PLR0124
        return Design(self.archs[index], values, intervals)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each column."""
        return tuple(column.name for column in self.columns)

    def position(self, name: str) -> int:
        """Position of a column.

        Raises:
            ConfigError: there is none of this name.
        """
        if name not in self.names:
            raise ConfigError(f"{name!r} was not evaluated; evaluated: {', '.join(self.names)}")
        return self.names.index(name)

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> Designs:
        """Return some rows, in the given order."""
        at = np.asarray(rows, dtype=np.intp)
        return Designs(self.archs.take(at), self.columns, self.values[at], self.lo[at], self.hi[at])

    def rows(self) -> list[Row]:
        """One flat dict a design.

        Keys: `arch_id`; for each column its heading, `<heading>_lo`, `<heading>_hi` (None where
        unknown) and `<name>_fidelity`; then `gene.<name>` for every gene of the space, None where
        it is absent.
        """
        return [self._row(i, arch_id) for i, arch_id in enumerate(self.archs.ids)]

    def _row(self, index: int, arch_id: str) -> Row:
        design = self[index]
        row: Row = {"arch_id": arch_id}
        for column in self.columns:
            interval = design.intervals.get(column.name)
            row[column.heading] = design.values[column.name]
            row[f"{column.heading}_lo"] = interval[0] if interval else None
            row[f"{column.heading}_hi"] = interval[1] if interval else None
            row[f"{column.name}_fidelity"] = column.fidelity
        for gene in self.archs.space.genes:
            row[f"gene.{gene.name}"] = design.arch.get(gene.name)
        return row

    def to_csv(self) -> str:
        """`rows` as CSV, empty cells for None."""
        text = io.StringIO()
        rows = self.rows()
        fields = list(rows[0]) if rows else ["arch_id"]
        writer = csv.DictWriter(text, fieldnames=fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: the space's name, the columns, and the designs with nested genes."""
        columns = [
            {
                "name": column.name,
                "unit": column.unit,
                "direction": column.direction,
                "fidelity": column.fidelity,
                "objective": column.objective,
            }
            for column in self.columns
        ]
        designs = [
            {
                "arch_id": arch_id,
                "values": dict(design.values),
                "intervals": {name: list(ends) for name, ends in design.intervals.items()},
                "genes": dict(design.arch.genes),
            }
            for arch_id, design in zip(
                self.archs.ids, map(self.__getitem__, range(len(self))), strict=True
            )
        ]
        return {"space": self.archs.space.name, "columns": columns, "designs": designs}

    def to_json(self) -> str:
        """`to_dict` as text; floats to the last bit."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    def to_pandas(self) -> Any:
        """`rows` as a DataFrame; needs the extra `pandas`.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ConfigError("to_pandas needs pandas: pip install 'hwnas[pandas]'") from error
        return pandas.DataFrame(self.rows())
