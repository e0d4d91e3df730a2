"""What the blocks of a network lose against the teacher, slot by slot, added up.

DONNAv2 (ICCV workshops 2023) searches by this sum instead of an accuracy predictor. Scores and
their formulas are those of `hwnas.blocks.scoring`; the blocks are measured by `hwnas blocks build`.

A proxy: blocks are measured one at a time on the teacher's features, and errors of a whole network
compound. `hwnas blocks score` says how much of the order survives. The library that ships for
`sam-vit-t-blocks` holds losses and no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from hwnas.blocks import Library, read_library, slot_gene
from hwnas.blocks.scoring import Score, block_values
from hwnas.cost import CostBatch, CostContext, Direction
from hwnas.data.scores import mean_with_error
from hwnas.errors import CostError
from hwnas.space import Arch, Archs

__all__ = ["BlockLoss"]

Float = NDArray[np.float64]
_SHIPPED = "sam_vit_t_blocks.json.gz"
_SHIPPED_FOR = "sam-vit-t-blocks"
_UNITS: dict[str, str] = {
    "sum": "NSR",
    "sum_log": "log NSR",
    "sum_norm": "standard deviations",
    "fisher": "loss increase (surrogate)",
    "ridge": "NSR",
    "replace1": "NSR",
}
_BY_IMAGE = ("sum", "fisher")


class BlockLoss:
    """Sum over slots of what their blocks lose.

    Args:
        context: Gives the space, and the library where it was named as the supernet.
        score: `sum`, `sum_log`, `sum_norm`, `fisher`, `ridge` or `replace1`.
        library: Folder of a library of blocks, or a packed one; by default the supernet of the
            context, else the one that ships for the space.

    `sum` and `fisher` have an interval, one standard error over held-out images to either side.

    Raises:
        CostError: the space has no slots of blocks, an option makes no sense, or the library is
            for another network or lacks what the score needs.
    """

    name = "block_loss"
    unit = "NSR"
    direction: Direction = "min"
    fidelity = "proxy"

    def __init__(
        self, context: CostContext, *, score: Score = "sum", library: str | None = None
    ) -> None:
        if score not in get_args(Score):
            known = ", ".join(get_args(Score))
            raise CostError(f"{self.name}: score is {score!r}; expected one of {known}")
        self._context, self._score, self.unit = context, score, _UNITS[score]
        facts = context.space.extras.get("blocks")
        if not facts:
            raise CostError(
                f"{self.name}: the space {context.space.name} has no slots of blocks; use it on "
                "sam-vit-t-blocks or a space of search_spaces.sam_blocks"
            )
        self._library = read_library(_source(context, library))
        self._check(facts)
        self._values = _table(context, self._library, block_values(self._library, score))

    @property
    def note(self) -> str:
        """What belongs to the number."""
        return f"{self._score} over {self._library.slots} slots at {self._library.resolution} px"

    @property
    def input_files(self) -> tuple[Path, ...]:
        """What the values were read from."""
        path = self._library.path
        return (path / "measurements.jsonl" if path.is_dir() else path,)

    def terms(self) -> list[tuple[str, ...]]:
        """One term a slot."""
        return [(slot_gene(slot),) for slot in range(self._library.slots)]

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return the sums, shape (n,)."""
        sums: Float = self._by_slot(archs).sum(axis=1)
        return sums

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return the same, with one standard error over images where that is known."""
        own = Archs.of(self._context.space, archs)
        errors = self._errors(own) if self._score in _BY_IMAGE else [None] * len(own)
        return CostBatch.of_means(
            list(zip(self.evaluate(own).tolist(), errors, strict=True)), fidelity="proxy",
            unit=self.unit,
            model_version=f"block_loss-1 {self._score} {self._library.settings.get('identity')}",
        )  # fmt: skip

    def breakdown(self, arch: Arch) -> dict[str, float]:
        """Return what each slot adds."""
        values = self._by_slot([arch])[0].tolist()
        return {f"slots.{slot}": value for slot, value in enumerate(values)}

    def _check(self, facts: dict[str, object]) -> None:
        library, space = self._library, self._context.space
        wrong = [
            f"{name}: the library has {own}, the space {facts[name]}"
            for name, own in (("geometry", library.geometry), ("resolution", library.resolution))
            if own != facts[name]
        ]
        if wrong:
            raise CostError(
                f"{library.path} is not a library for {space.name}: {'; '.join(wrong)}; build one "
                "with `hwnas blocks build`"
            )

    def _by_slot(self, archs: Sequence[Arch]) -> Float:
        """What each slot adds to each arch, shape (n, B)."""
        own = Archs.of(self._context.space, archs)
        columns = [self._context.space.column(slot_gene(s)) for s in range(self._library.slots)]
        found = [values[own.matrix[:, c]] for values, c in zip(self._values, columns, strict=True)]
        sums: Float = np.stack(found, axis=1)
        if np.isnan(sums).any():
            row, slot = (int(i) for i in np.argwhere(np.isnan(sums))[0])
            block = own[row][slot_gene(slot)]
            raise CostError(
                f"{self.name}: arch {own[row].id} has block {block} in slot {slot}, which "
                f"{self._library.path} does not hold; build it (`hwnas blocks build --resume`) or "
                "search what `hwnas blocks filter` leaves"
            )
        return sums

    def _errors(self, archs: Archs) -> list[float | None]:
        """Standard errors over images; errors of one image in several slots go together."""
        found: list[float | None] = []
        for arch in archs:
            records = [
                self._library.blocks[slot, str(arch[slot_gene(slot)])]
                for slot in range(self._library.slots)
            ]
            parts = [
                r.nsr_of_images if self._score == "sum" else r.fisher_of_images or ()
                for r in records
            ]
            found.append(mean_with_error(np.sum(parts, axis=0).tolist())[1])
        return found


def _source(context: CostContext, library: str | None) -> Path:
    named = library or context.supernet_source
    if named is not None:
        return Path(named)
    if context.space.name == _SHIPPED_FOR:
        import hwnas

        return Path(hwnas.__file__).parent / "assets" / _SHIPPED
    raise CostError(
        f"block_loss: no library of blocks for {context.space.name}; build one with `hwnas blocks "
        "build`, and name its folder with --supernet"
    )


def _table(
    context: CostContext, library: Library, values: dict[tuple[int, str], float]
) -> list[Float]:
    """For each slot what its options add, NaN for those that the library lacks."""
    return [
        np.array([
            values.get((slot, str(option)), np.nan)
            for option in context.space.gene(slot_gene(slot)).options
        ])
        for slot in range(library.slots)
    ]  # fmt: skip
