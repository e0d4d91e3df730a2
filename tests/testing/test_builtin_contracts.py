"""Everything that is registered passes the public kits; a new plug-in adds its tests."""

from __future__ import annotations

import pytest

from hwnas.device import listing
from hwnas.errors import CostError
from hwnas.registry import cost_models, search_spaces
from hwnas.testing import check_cost_spec, check_device, check_space_spec
from hwnas.testing.workplace import Workplace

DEVICE = "jetson-orin"
OWN_SPACE = "sam-vit-t"
OTHER_SPACES = [name for name in search_spaces.names() if name != OWN_SPACE]


@pytest.mark.parametrize("name", search_spaces.names())
def test_search_space_keeps_its_promises(name: str) -> None:
    assert check_space_spec(name, n=16) == []


@pytest.mark.parametrize("name", cost_models.names())
def test_cost_model_keeps_its_promises(name: str) -> None:
    assert check_cost_spec(name, space=home(name), device=DEVICE) == []


@pytest.mark.slow
@pytest.mark.parametrize("space", OTHER_SPACES)
@pytest.mark.parametrize("name", cost_models.names())
def test_cost_model_keeps_its_promises_elsewhere(name: str, space: str) -> None:
    try:
        found = check_cost_spec(name, space=space, device=DEVICE, n=4)
    except CostError as error:
        pytest.skip(f"{name} does not price {space}: {error}")
    if any("raises CheckpointError" in line for line in found):
        pytest.skip(f"{name} needs weights of {space}, which are not shipped")
    assert found == []


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
