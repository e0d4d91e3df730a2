"""Several sparse adapters made one, and how much they share.

Source: Bhardwaj et al., "Sparse High Rank Adapters" (2024), section 3.2: the fused delta is the
sum of the deltas times their strengths; section 4.2, definitions 1 and 2: AWOM and AWOR say how
far two of them interfere. The l2 norm of AWOM is read as the spectral norm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from hwnas.adapters.attaching import Attached
from hwnas.adapters.kinds.shira import ShiraAdapter
from hwnas.adapters.kinds.sparse_entries import GIVEN, SparseDelta
from hwnas.adapters.switching import sparse_deltas
from hwnas.errors import ConfigError

__all__ = ["Overlap", "fuse", "overlaps", "sum_deltas"]

_SMALL = 512  # columns up to which a norm is taken of the dense product


@dataclass(frozen=True, slots=True)
class Overlap:
    """What two sparse deltas A and B of one matrix have in common.

    Attributes:
        entries: How many A and B have.
        shared: How many entries are in both.
        awom: ||A^T B||_2, the adapter weight orthogonality magnitude; 0 for orthogonal ones.
        awor: Share of zeros in A^T B, the adapter weight orthogonality ratio, 0 to 1.
    """

    entries: tuple[int, int]
    shared: int
    awom: float
    awor: float

    @property
    def share(self) -> float:
        """Shared entries over those of the smaller adapter."""
        return self.shared / max(1, min(self.entries))


def sum_deltas(deltas: Sequence[SparseDelta], strengths: Sequence[float]) -> SparseDelta:
    """The sum of deltas of one matrix, each times its strength; shared entries add up."""
    entries = torch.cat([delta.entries for delta in deltas])
    values = torch.cat([d.values * s for d, s in zip(deltas, strengths, strict=True)])
    return SparseDelta.of(entries, values, deltas[0].shape)


def fuse(
    attached: Attached, *names: str, into: str, strengths: Sequence[float] | None = None
) -> Attached:
    """Add a `shira` adapter that does what sparse adapters do together; it alone is active then.

    Of one adapter it makes a SHiRA adapter of its own, which is how `shira_dora` is deployed.
    Those that are fused stay attached. `strengths` are 1 by default.

    Raises:
        ConfigError: an adapter is absent or not sparse, the strengths are not one for each, or
            `into` is taken.
    """
    weights = [1.0] * len(names) if strengths is None else list(strengths)
    if not names or len(weights) != len(names):
        raise ConfigError(
            f"{len(names)} adapters with {len(weights)} strengths; expected at least one adapter "
            "and a strength for each"
        )
    every = [sparse_deltas(attached, name) for name in names]
    paths = list(dict.fromkeys(path for deltas in every for path in deltas))
    fused = {}
    for path in paths:
        found = [(d[path], s) for d, s in zip(every, weights, strict=True) if path in d]
        fused[path] = sum_deltas([delta for delta, _ in found], [s for _, s in found])
    return add_sparse(attached, fused, name=into)


def add_sparse(attached: Attached, deltas: Mapping[str, SparseDelta], *, name: str) -> Attached:
    """Add a `shira` adapter of these deltas, by layer; it is the active one then."""
    exactly = "|".join(map(re.escape, deltas))
    attached.add("shira", targets=exactly, name=name, mask=GIVEN)
    for path, adapter in attached.adapters(name).items():
        assert isinstance(adapter, ShiraAdapter)
        adapter.assign(deltas[path])
    return attached


def overlaps(attached: Attached, first: str, second: str) -> dict[str, Overlap]:
    """What two sparse adapters have in common, in each layer that has both.

    Raises:
        ConfigError: one is absent or not sparse.
    """
    one, two = sparse_deltas(attached, first), sparse_deltas(attached, second)
    return {path: _overlap(one[path], two[path]) for path in one if path in two}


def _overlap(one: SparseDelta, two: SparseDelta) -> Overlap:
    shared = int(torch.isin(one.entries, two.entries, assume_unique=True).sum())
    product = (_matrix(one).T @ _matrix(two)).tocsr()
    product.eliminate_zeros()
    rows, columns = product.shape
    return Overlap(
        (len(one.entries), len(two.entries)), shared, _spectral_norm(product),
        1 - product.nnz / (rows * columns),
    )  # fmt: skip


def _matrix(delta: SparseDelta) -> sparse.csr_array:
    entries, values = delta.entries.cpu().numpy(), delta.values.double().cpu().numpy()
    columns = delta.shape[1]
    return sparse.csr_array((values, (entries // columns, entries % columns)), shape=delta.shape)


def _spectral_norm(product: sparse.csr_array) -> float:
    size = product.shape[0]
    if product.nnz == 0:
        return 0.0
    if size <= _SMALL:
        return float(np.linalg.norm(product.toarray(), 2))
    from scipy.sparse.linalg import svds

    start = np.ones(size) / np.sqrt(size)
    return float(svds(product, k=1, v0=start, return_singular_vectors=False)[0])
