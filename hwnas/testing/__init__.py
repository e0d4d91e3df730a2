"""Public contract kits: give them a plug-in and they say which of its promises are broken.

    from hwnas.testing import check_cost_model
    assert not check_cost_model(MyNpu(context), context)

`hwnas.testing.pytest_kits` holds the same promises as test classes; the kit of adapters is
`hwnas.testing.adapters.check_adapter`, apart because it imports torch.
"""

from __future__ import annotations

from hwnas.testing.cost_models import check_cost_model
from hwnas.testing.devices import check_device
from hwnas.testing.search_spaces import check_search_space
from hwnas.testing.specs import check_cost_spec, check_space_spec

__all__ = [
    "check_cost_model",
    "check_cost_spec",
    "check_device",
    "check_search_space",
    "check_space_spec",
]
