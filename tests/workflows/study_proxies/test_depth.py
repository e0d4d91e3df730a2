"""The depth that proxies prefer, against the definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwnas.calibration import spearman_rho
from hwnas.calibration.partial import partial_spearman
from hwnas.cost import CostContext
from hwnas.cost.proxies import Counts
from hwnas.space import SearchSpace, ordinal
from hwnas.workflows.study_proxies import ProxyOptions, study_proxies
from hwnas.workflows.study_proxies.depth import QUALITY, depth_bias
from search_spaces.toy import toy
from tests.cost_models.toy_subnets import write_subnets

PLUGIN = """
from hwnas.cost.proxies import Counts

class Deep:
    name, unit, direction, fidelity = "deep", "layers", "max", "proxy"
    def __init__(self, context):
        self._counts = Counts(context)
    def evaluate(self, archs):
        return self._counts.of(archs)["depth"]

class Flat(Deep):
    name, direction = "flat", "min"
"""


def test_figures_are_those_of_the_definitions(tmp_path: Path) -> None:
    space = toy()
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN)
    costs = (f"{plugin}:Deep", f"{plugin}:Flat", "bitops")
    subnets = write_subnets(tmp_path / "subnets.jsonl", space, 60, seed=0, prompt=None)
    study = study_proxies(
        space, subnets=subnets, options=ProxyOptions(costs=costs, bootstrap=30, bands=0)
    )
    found = {one.name: one for one in depth_bias(study)}
    assert list(found) == [QUALITY, "deep", "flat", "bitops"]
    counts = Counts(CostContext(space)).of(study.subnets.archs)
    depth, macs = counts["depth"], counts["log MACs"]
    quality = found[QUALITY]
    assert quality.with_depth.value == pytest.approx(spearman_rho(depth, study.subnets.iou))
    assert quality.at_equal_macs.value == pytest.approx(
        partial_spearman(depth, study.subnets.iou, macs[:, None])
    )
    k = round(0.1 * len(depth))
    best = np.argsort(-study.subnets.iou, kind="stable")[:k]
    assert quality.top == k
    assert quality.depth_of_top == pytest.approx(depth[best].mean())
    assert quality.depth_of_all == pytest.approx(depth.mean())
    assert found["deep"].with_depth.value == pytest.approx(1)
    assert found["deep"].depth_of_top == depth.max()
    assert found["flat"].with_depth.value == pytest.approx(-1)  # `min` means the other way round
    assert found["flat"].depth_of_top == depth.min()
    lo, hi = quality.with_depth.lo, quality.with_depth.hi
    assert lo is not None
    assert hi is not None
    assert lo < quality.with_depth.value < hi


def test_a_space_without_layers_has_no_depth_to_speak_of(tmp_path: Path) -> None:
    flat = SearchSpace("flat", [ordinal("w", tuple(range(20)))])
    path = tmp_path / "subnets.jsonl"
    path.write_text(
        "".join(
            f'{{"arch_id": "{a.id}", "genes": {{"w": {a["w"]}}}, "iou": {a["w"] / 40}}}\n'
            for a in next(flat.enumerate())
        )
    )
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "class W:\n"
        "    name, unit, direction, fidelity = 'w', 'w', 'max', 'proxy'\n"
        "    def __init__(self, context): pass\n"
        "    def evaluate(self, archs):\n"
        "        import numpy as np\n"
        "        return np.array([float(a['w']) for a in archs])\n"
    )
    options = ProxyOptions(costs=(f"{plugin}:W",), bootstrap=0)
    assert depth_bias(study_proxies(flat, subnets=path, options=options)) == ()
