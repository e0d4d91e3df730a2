"""After a search: the best designs are measured on the device, so that a limit can be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hwnas.device import DeviceProfile
from hwnas.errors import ConfigError
from hwnas.measure.campaign import Campaign, Item
from hwnas.measure.connection import Connected, check_reachable, connect, open_store
from hwnas.measure.items import network_item
from hwnas.measure.measurement import Measurement
from hwnas.measure.store import MeasurementStore
from hwnas.records import RunFolder, Verification, VerifiedDesign
from hwnas.records.verified import read_verified, write_verified
from hwnas.search import Design, Limit, Objective, ParetoFront
from hwnas.workflows.resolve import Resolved
from hwnas.workflows.watch import Watch

__all__ = ["best_spread", "check_verifiable", "verify"]


def check_verifiable(live: Resolved) -> None:
    """Find out before a search whether its designs can be measured afterwards.

    Raises:
        ConfigError: there is no device, or no predicted time to compare with.
        DeviceError: the device is not this machine and cannot be reached.
    """
    device, _ = _what(live)
    check_reachable(live.config.measuring, device, to=f"--verify {live.config.verify}")
    with connect(live.config.measuring, device):
        pass


def verify(
    live: Resolved, front: ParetoFront, watch: Watch, *, folder: RunFolder | None = None
) -> Verification:
    """Measure designs of the front that are spread over it, and compare.

    Each is compiled and timed as a whole, for as many prompts as the prediction counts; what was
    disturbed is visited again after the others. It is saved as it is done, so that a kill loses
    one; what the folder holds is not measured again unless it failed. Every measurement goes to
    the store of the device as well.

    Raises:
        DeviceError: the device cannot be reached.
    """
    device, column = _what(live)
    prompts = int(getattr(column.model, "prompts", 1))
    chosen = [front[row] for row in best_spread(front, live.config.verify)]
    watch.begin("measuring the best designs", len(chosen))
    measuring = live.config.measuring
    with open_store(measuring, device) as store, connect(measuring, device) as connected:
        campaign = Campaign(connected.runner, connected.label, store, fresh=True)
        done = _known(folder, connected, column.name, prompts)
        usual = _usual_reference(store, connected)
        new = [design for design in chosen if design.id not in done]
        items = [
            network_item(live.space, device, design.arch, prompts=prompts, picked="verify")
            for design in new
        ]
        design_of = {item.key: design for item, design in zip(items, new, strict=True)}

        def compared(item: Item, measured: Measurement) -> VerifiedDesign:
            limits = live.problem.limits
            return _compared(design_of[item.key], column.name, measured, limits, usual=usual)

        def keep() -> Verification:
            verification = Verification(
                cost=column.name, unit=column.unit, fidelity=_fidelity(front, column.name),
                runner=connected.label, fingerprint=connected.runner.fingerprint,
                prompts=prompts, wanted=len(chosen),
                designs=tuple(done[design.id] for design in chosen if design.id in done),
            )  # fmt: skip
            if folder is not None:
                write_verified(folder, verification)
            watch.advance(len(done))
            return verification

        for item in items:
            found = compared(item, campaign.measure(item))
            done[found.arch_id] = found
            keep()
        for item in campaign.restless(items):
            again = compared(item, campaign.revisit(item))
            done[again.arch_id] = _faster(done[again.arch_id], again)
            keep()
        return keep()


def _faster(one: VerifiedDesign, other: VerifiedDesign) -> VerifiedDesign:
    """The visit that less has disturbed, as for the times that the predictor is fitted on."""
    times = [math.inf if it.measured is None else it.measured for it in (one, other)]
    return one if times[0] <= times[1] else other


def best_spread(front: ParetoFront, n: int) -> list[int]:
    """Rows of `n` designs of a front: the best of each objective, the knee, then the most apart.

    Every design of a front keeps the limits of its search. Distances are taken in the objectives,
    each scaled to its range on the front.
    """
    if not len(front):
        return []
    columns = [at for at, column in enumerate(front.columns) if column.objective]
    values = front.values[:, columns]
    extent = np.ptp(values, axis=0)
    signs = np.array([1.0 if front.columns[at].direction == "min" else -1.0 for at in columns])
    scaled = values * signs / np.where(extent > 0, extent, 1.0)
    knee = int(scaled.sum(axis=1).argmin())  # a shift of a column changes no order
    first = [*scaled.argmin(axis=0).tolist(), knee]
    taken = list(dict.fromkeys(first))[:n]
    while len(taken) < min(n, len(front)):
        taken.append(_farthest(scaled, taken))
    return taken


def _farthest(scaled: NDArray[np.float64], taken: Sequence[int]) -> int:
    apart = np.linalg.norm(scaled[:, None] - scaled[None, list(taken)], axis=2).min(axis=1)
    apart[list(taken)] = -1.0
    return int(apart.argmax())


def _usual_reference(store: MeasurementStore, connected: Connected) -> float | None:
    """Milliseconds of the reference kernel in all measurements so far; None without any."""
    rows = store.rows(fingerprint=connected.runner.fingerprint, runner=connected.label)
    times = [row.reference_ms for row in rows if row.reference_ms is not None]
    return float(np.median(times)) if times else None


def _compared(
    design: Design,
    name: str,
    measured: Measurement,
    limits: Sequence[Limit],
    *,
    usual: float | None,
) -> VerifiedDesign:
    lo, hi = design.intervals.get(name, (None, None))
    value = measured.value_ms
    broken = tuple(
        str(limit)
        for limit in limits
        if value is not None and limit.name == name and not _kept(limit, value)
    )
    return VerifiedDesign(
        arch_id=design.id, predicted=design.values[name], lo=lo, hi=hi, measured=value,
        status=measured.status, message=measured.message, broken=broken,
        slowdown=None if not usual or measured.reference_ms is None
        else measured.reference_ms / usual,
    )  # fmt: skip


def _kept(limit: Limit, value: float) -> bool:
    known, unknown = np.array([value]), np.array([np.nan])
    return bool(limit.violation(known, unknown, unknown)[0] <= 0)


def _known(
    folder: RunFolder | None, connected: Connected, cost: str, prompts: int
) -> dict[str, VerifiedDesign]:
    """Designs that an interrupted verification of this run has measured, in the same way."""
    earlier = read_verified(folder) if folder is not None else None
    now = (cost, prompts, connected.label, connected.runner.fingerprint)
    if earlier is None or now != (
        earlier.cost, earlier.prompts, earlier.runner, earlier.fingerprint
    ):  # fmt: skip
        return {}
    return {design.arch_id: design for design in earlier.measured}


def _what(live: Resolved) -> tuple[DeviceProfile, Objective]:
    """The device, and the column whose values are times on it."""
    asked = f"--verify {live.config.verify}"
    if live.device is None:
        raise ConfigError(f"{asked}: no device to measure on; pass --device NAME")
    times = [column for column in live.problem.columns if column.unit == "ms"]
    named = [column for column in times if column.name == "latency"] or times
    if len(named) != 1:
        what = ", ".join(column.name for column in named) or "none of them is in ms"
        raise ConfigError(
            f"{asked}: expected one predicted time among the costs of this search, found {what}; "
            "add --cost latency"
        )
    return live.device, named[0]


def _fidelity(front: ParetoFront, name: str) -> str:
    return next(column.fidelity for column in front.columns if column.name == name)
