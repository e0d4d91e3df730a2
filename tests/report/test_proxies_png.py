"""Pictures of a study of proxies: written whole, for one model or many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwnas.errors import RunError
from hwnas.report.proxies_png import Dot, write_proxies_png, write_scatter_png


def test_figures_and_scatter_are_pngs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dots: dict[str, dict[str, Dot]] = {
        "a": {"Kendall tau": (0.5, 0.4, 0.6), "partial": (0.1, 0.2, 0.3)},  # beside its interval
        "depth": {"Kendall tau": (0.2, 0.2, 0.2)},
        "constant": {},
    }
    write_proxies_png(dots, ["depth"], tmp_path / "dots.png", title="t")
    for n in (1, 5):
        models = {f"m{i}": np.exp(rng.normal(0, 3 * i, 20)) for i in range(n)}
        color = None if n == 1 else rng.uniform(1, 9, 20)
        write_scatter_png(
            models, rng.uniform(0, 100, 20), tmp_path / f"s{n}.png", color=color, title="t"
        )
    for name in ("dots", "s1", "s5"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(RunError, match="cannot write"):
        write_proxies_png(dots, [], tmp_path / "none" / "x.png", title="t")
