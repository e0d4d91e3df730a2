"""Everything that is registered passes the public kits; a new plug-in adds its tests."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.cost import Fittable, build
from hwnas.device import listing
from hwnas.errors import CostError
from hwnas.registry import cost_models, search_spaces
from hwnas.testing import check_cost_model, check_cost_spec, check_device, check_space_spec
from hwnas.testing.cost_trial import training_values
from hwnas.testing.workplace import Workplace

DEVICE = "jetson-orin"
OWN_SPACE = "sam-vit-t"
# Read at collection: other tests register plug-ins of their own. `measured` needs its device at
# hand, `finetuned_iou` images to train on: their own tests run the kit.
NEED_MORE = ("measured", "finetuned_iou")
COSTS = [name for name in cost_models.names() if name not in NEED_MORE]
OTHER_SPACES = [name for name in search_spaces.names() if name != OWN_SPACE]

# Fewer images and draws than by default: the promises are the same.
_FEW = {"batch_images": 1, "seeds": 1}
OPTIONS: dict[str, dict[str, int]] = {
    **dict.fromkeys(("zico", "zico_bc", "grad_norm", "snip", "zen"), _FEW),
    "sensitivity": {"images": 1},
    "synflow": {"seeds": 1},
    "dss": {"seeds": 1},
    "naswot": {"batch_images": 2, "seeds": 1},
}

# How a cost model of quality refuses a space that has no supernet, or none that ships, or networks
# that it is not made for.
NO_WEIGHTS = (
    "raises CheckpointError", "needs a supernet and none was given", "embeds no images",
    "measures SAM supernets", "has no attention layers",
)  # fmt: skip


@pytest.mark.parametrize("name", search_spaces.names())
def test_search_space_keeps_its_promises(name: str) -> None:
    assert check_space_spec(name, n=16) == []


@pytest.mark.parametrize("name", COSTS)
def test_cost_model_keeps_its_promises(name: str) -> None:
    assert check_cost_spec(name, space=home(name), device=DEVICE, options=OPTIONS.get(name)) == []


@pytest.mark.parametrize("space", OTHER_SPACES)
def test_cost_models_keep_their_promises_on_other_spaces(space: str) -> None:
    context = Workplace("bitops", space, DEVICE).context()
    findings: dict[str, list[str]] = {}
    for name in COSTS:
        try:
            model = build(name, context, **OPTIONS.get(name, {}))
        except CostError:
            continue  # it needs a supernet, or genes, that this space does not have
        if isinstance(model, Fittable):
            archs = context.space.sample(np.random.default_rng(0), 24).unique()
            model.fit(archs, training_values(context, archs))
        found = check_cost_model(model, context, n=2)
        if not any(words in line for line in found for words in NO_WEIGHTS):
            findings[name] = found
    assert "bitops" in findings
    assert not any(findings.values()), findings


def home(name: str) -> str:
    """Return the first space that a cost model can be built for."""
    for space in (OWN_SPACE, *OTHER_SPACES):
        workplace = Workplace(name, space, DEVICE)
        try:
            workplace.model(workplace.context())
        except CostError:
            continue
        return space
    raise AssertionError(f"{name} can be built for no space that ships")


@pytest.mark.parametrize("name", [entry.id for entry in listing()])
def test_device_profile_keeps_its_promises(name: str) -> None:
    assert check_device(name) == []
