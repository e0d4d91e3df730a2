"""Who makes the probes of a supernet, and by which seed."""

from __future__ import annotations

import hashlib
from typing import Any

from hwnas.errors import CostError
from hwnas.space import Arch
from hwnas.supernet.probing.probe import Probeable
from hwnas.supernet.probing.sam_probes import SamProbes
from hwnas.supernet.sam_supernet import SamSupernet

__all__ = ["probe_id", "probeable", "weight_seed"]


def probeable(supernet: Any, *, by: str) -> Probeable:
    """The supernet itself if it is `Probeable`, else what makes probes of it.

    Raises:
        CostError: neither; the message names the cost model `by`.
    """
    if isinstance(supernet, Probeable):
        return supernet
    if isinstance(supernet, SamSupernet):
        return SamProbes(supernet)
    raise CostError(
        f"{by}: the supernet is a {type(supernet).__name__}, which cannot be probed; expected a "
        "SAM supernet, or methods probe(arch, weights=, seed=) and probe_batches(arch, data, "
        "size) as hwnas.supernet.probing.Probeable says"
    )


def probe_id(source: Probeable, arch: Arch) -> str:
    """What an arch is to its probe: `source.probe_id(arch)`, or the arch's id."""
    own = getattr(source, "probe_id", None)
    return arch.id if own is None else str(own(arch))


def weight_seed(network: str, seed: int, repeat: int) -> int:
    """The seed of a network's weights, below 2^63: one for each network, run and repeat."""
    digest = hashlib.sha256(f"{network}/{seed}/{repeat}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
