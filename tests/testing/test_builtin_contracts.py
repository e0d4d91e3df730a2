"""Everything that is registered passes the public kits; a new plug-in adds its tests."""

from __future__ import annotations

import pytest

from hwnas.device import listing
from hwnas.errors import CostError, SpaceError
from hwnas.registry import cost_models, search_spaces
from hwnas.testing import check_cost_spec, check_device, check_space_spec

DEVICE = "jetson-orin"
OWN_SPACE = "sam-vit-t"


@pytest.mark.parametrize("name", search_spaces.names())
def test_search_space_keeps_its_promises(name: str) -> None:
    assert check_space_spec(name, n=16) == []


@pytest.mark.parametrize("name", cost_models.names())
def test_cost_model_keeps_its_promises(name: str) -> None:
    assert check_cost_spec(name, space=OWN_SPACE, device=DEVICE) == []


@pytest.mark.slow
@pytest.mark.parametrize("space", [name for name in search_spaces.names() if name != OWN_SPACE])
@pytest.mark.parametrize("name", cost_models.names())
def test_cost_model_keeps_its_promises_elsewhere(name: str, space: str) -> None:
    try:
        found = check_cost_spec(name, space=space, device=DEVICE, n=4)
    except (CostError, SpaceError) as error:
        pytest.skip(f"{name} does not price {space}: {error}")
    assert found == []


@pytest.mark.parametrize("name", [entry.id for entry in listing()])
def test_device_profile_keeps_its_promises(name: str) -> None:
    assert check_device(name) == []
