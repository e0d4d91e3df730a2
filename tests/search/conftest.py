"""A space of 339,120 archs with made-up costs, and the toy space with the built-in ones."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from hwnas.search import Limit, Objective, Problem
from hwnas.space import Arch, Archs, SearchSpace, choice, ordinal, repeat
from search_spaces.toy import toy


def rough_space() -> SearchSpace:
    return SearchSpace(
        "rough",
        [
            ordinal("resolution", (128, 192, 256, 384, 512), role="resolution"),
            ordinal("depth", (2, 3, 4), role="depth"),
            choice("act", ("relu", "gelu", "hswish")),
            repeat(
                "blocks",
                4,
                [
                    ordinal("w_bits", (2, 3, 4, 8), role="bits"),
                    ordinal("width", (16, 24, 32), role="width"),
                ],
                depth="depth",
            ),
        ],
    )


class RoughCost:
    """A closed form of the genes; `kind` says which. Absent blocks count nothing."""

    def __init__(self, space: SearchSpace, kind: str) -> None:
        self.name = kind
        self.unit = {"bitops": "GBitOPs", "latency": "ms", "quality": "score"}[kind]
        self.direction = "max" if kind == "quality" else "min"
        self._space = space
        self.calls = 0

    def evaluate(self, archs: Sequence[Arch]) -> np.ndarray:
        self.calls += 1
        matrix = Archs.of(self._space, archs).matrix
        r, d = self._column(matrix, "resolution"), self._column(matrix, "depth")
        act = matrix[:, self._space.column("act")]
        b = np.stack([self._column(matrix, f"blocks.{i}.w_bits") for i in range(4)], axis=1)
        w = np.stack([self._column(matrix, f"blocks.{i}.width") for i in range(4)], axis=1)
        return getattr(self, f"_{self.name}")(r, d, act, b, w)

    def _column(self, matrix: np.ndarray, name: str) -> np.ndarray:
        options = np.array([*self._space.gene(name).options, 0], dtype=np.float64)
        return options[matrix[:, self._space.column(name)]]

    @staticmethod
    def _bitops(r, d, act, b, w):  # type: ignore[no-untyped-def]
        return r**2 / 1e5 * (b * w * 8).sum(axis=1) / 100

    @staticmethod
    def _latency(r, d, act, b, w):  # type: ignore[no-untyped-def]
        slow = np.where(b == 8, 1.6, np.where(b == 3, 1.3, 1.0))  # 2 bits run as 4, 3 are unpacked
        busy = np.maximum(w * slow, 12) * (w > 0)
        return 0.2 * d + r**2 / 1e5 * busy.sum(axis=1) / 20 + 0.15 * (act == 1) * d

    @staticmethod
    def _quality(r, d, act, b, w):  # type: ignore[no-untyped-def]
        noise = (np.where(b > 0, 4.0**-b, 0) * np.array([3, 1, 1, 2])).sum(axis=1)
        smooth = 0.9 * np.log(w.sum(axis=1)) + 0.5 * np.log(r / 128) - 3.5 - 6 * noise
        rough = 0.02 * np.sin(b[:, 0] * w[:, 1] / 7) + 0.02 * np.cos(r / 64 + b.sum(axis=1))
        equal = ((b[:, :-1] == b[:, 1:]) & (b[:, 1:] > 0)).sum(axis=1)
        return 1 / (1 + np.exp(-smooth)) + rough + 0.015 * equal + 0.01 * (act == 2) * (d - 2)


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return rough_space()


@pytest.fixture(scope="session")
def toy_space() -> SearchSpace:
    return toy()


@pytest.fixture
def rough(space: SearchSpace) -> Callable[..., Problem]:
    """Make a problem from names of made-up costs, limits as text, and replaced models."""

    def make(*names: str, limits: Sequence[str] = (), on: str = "pessimistic", **models: object):
        built = {name: models.get(name) or RoughCost(space, name) for name in names}
        parsed = tuple(Limit.parse(text, on=on) for text in limits)  # type: ignore[arg-type]
        seen = {limit.name for limit in parsed} - set(names)
        observed = tuple(Objective.of(RoughCost(space, name)) for name in sorted(seen))
        objectives = tuple(Objective.of(m, name) for name, m in built.items())  # type: ignore[arg-type]
        return Problem(space, objectives, parsed, observed)

    return make
