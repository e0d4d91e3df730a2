"""`hwnas measure`: time the kernels of a space, and whole subnets, on a device."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.config import MeasuringConfig, make_measuring
from hwnas.cost import CostContext, build, estimate
from hwnas.cost.lowering import lower
from hwnas.device import DeviceProfile, find
from hwnas.errors import ConfigError, Interrupted
from hwnas.measure.campaign import AGAIN_SHARE, VISITS, Campaign, CampaignReport, Item, Standing
from hwnas.measure.choosing import (
    Picked,
    choose_kernels,
    choose_subnets,
    most_uncertain,
    take_census,
)
from hwnas.measure.connection import Connected, connect, open_store
from hwnas.measure.items import kernel_item, network_item
from hwnas.measure.lowering import steps_of
from hwnas.measure.store import MeasurementStore
from hwnas.space import Arch, SearchSpace, load_space
from hwnas.supernet.training.sampling import draw_archs
from hwnas.workflows.tuning import tune_kernels
from hwnas.workflows.watch import Silent, Watch

__all__ = ["Amounts", "MeasureOutcome", "Plan", "measure", "plan_campaign"]

_POOL = 400  # random subnets that kernels are counted in and subnets are chosen from
_KERNELS, _SUBNETS = 300, 40
_KERNELS_A_SUBNET = 4  # where only the time is limited


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much to measure; None stands for the default, or for `minutes` to decide.

    `samples` counts kernels and `subnets` whole subnets, both with what the store holds already.
    `uncertain` are further subnets, those that the device's predictor knows least about. `again` is
    the share that is measured twice. What is disturbed is measured up to `visits` times.
    """

    samples: int | None = None
    subnets: int | None = None
    minutes: float | None = None
    uncertain: int = 0
    prompts: int = 1
    again: float = AGAIN_SHARE
    visits: int = VISITS

    def __post_init__(self) -> None:
        counts = {"samples": self.samples, "subnets": self.subnets, "uncertain": self.uncertain}
        problems = [
            f"--{name} {count}: expected 0 or more" for name, count in counts.items()
            if count is not None and count < 0
        ]  # fmt: skip
        if self.minutes is not None and not (0 < self.minutes < math.inf):
            problems.append(f"--minutes {self.minutes}: expected more than 0")
        if not 0 <= self.again <= 1:
            problems.append(f"--again {self.again}: expected a share from 0 to 1")
        if self.visits < 1:
            problems.append(f"--visits {self.visits}: expected 1 or more")
        if self.prompts < 1:
            problems.append(f"--prompts {self.prompts}: expected 1 or more")
        if problems:
            raise ConfigError("\n".join(problems))


@dataclass(frozen=True)
class Plan:
    """What a campaign is going to measure, in this order."""

    items: tuple[Item, ...]
    kernels: int
    subnets: int
    kernels_of_space: int


@dataclass(frozen=True)
class MeasureOutcome:
    """What a campaign did, with what, and where it is kept."""

    plan: Plan
    report: CampaignReport
    device: str
    fingerprint: str
    runner: str
    store: Path

    def facts(self) -> dict[str, Any]:
        """Plain JSON."""
        report = self.report
        return {
            "device": self.device, "fingerprint": self.fingerprint, "runner": self.runner,
            "kernels": f"{self.plan.kernels} of {self.plan.kernels_of_space} seen in the space",
            "subnets": self.plan.subnets, "measured": report.measured, "known": report.known,
            "noisy": report.noisy, "failures": len(report.failed), "left": report.left,
            "measured_twice": len(report.again), "noise_floor_pct": report.noise_floor_pct,
            "drift_pct": report.drift_pct, "seconds": report.seconds, "store": str(self.store),
        }  # fmt: skip


def measure(
    device: str | DeviceProfile,
    *,
    space: str | SearchSpace = "sam-vit-t",
    amounts: Amounts | None = None,
    measuring: MeasuringConfig | None = None,
    seed: int = 0,
    retry_failed: bool = False,
    tune: int = 0,
    watch: Watch | None = None,
) -> MeasureOutcome:
    """Measure kernels and subnets of a space on a device, into its store.

    What the store holds is not measured again, so the same call goes on after any end, and a call
    with larger amounts adds to it.

    Args:
        device: name, `id:mode`, path, or a profile.
        space: whose kernels and subnets.
        amounts: how much; 300 kernels and 40 subnets by default.
        measuring: the runner, how the device is reached, and the store.
        seed: draws subnets; equal seeds plan the same.
        retry_failed: measure again what has failed before.
        tune: schedules to try for each kernel of the plan before anything is measured.
        watch: told about the progress.

    Raises:
        ConfigError: an amount or a way to reach the device makes no sense.
        DeviceError: the device cannot be reached, or many measurements in a row fail.
        Interrupted: Ctrl-C; everything measured is in the store.
    """
    amounts, measuring = amounts or Amounts(), measuring or make_measuring()
    watch = watch or Silent()
    profile = device if isinstance(device, DeviceProfile) else find(device)
    found = space if isinstance(space, SearchSpace) else load_space(space)
    watch.begin(f"choosing what to measure of {found.name}", None)
    plan = plan_campaign(found, profile, amounts, seed=seed)
    if tune:
        tune_kernels(plan.items, profile, tune, measuring=measuring, watch=watch)
    with open_store(measuring, profile) as store, connect(measuring, profile) as connected:
        report = _run(plan, connected, store, amounts, retry_failed, watch)
        return MeasureOutcome(
            plan, report, profile.key, connected.runner.fingerprint, connected.label, store.path
        )


def plan_campaign(
    space: SearchSpace, device: DeviceProfile, amounts: Amounts, *, seed: int = 0
) -> Plan:
    """Choose kernels and subnets; equal arguments give an equal plan.

    Raises:
        ConfigError: uncertain subnets are asked for, and the device has no predictor.
        DeviceError: the device cannot run a layer of the space.
        SpaceError: the space cannot say which layers a subnet has.
    """
    pool = draw_archs(space, np.random.default_rng(seed), _POOL).unique()
    lowered = [lower(space, arch) for arch in pool]
    steps = (steps_of(workload, device) for workload in lowered)
    census = take_census(zip(lowered, steps, strict=True), device, prompts=amounts.prompts)
    samples, subnets = _numbers(amounts, len(census.kernels), len(pool))
    kernels = choose_kernels(census, samples)
    picked: dict[Arch, Picked] = {
        pool[row]: why for row, why in choose_subnets(pool, census.subnet_ms, subnets, seed=seed)
    }
    for arch in _uncertain(space, device, amounts, seed=seed):
        picked.setdefault(arch, "uncertain")
    networks = [
        network_item(space, device, arch, prompts=amounts.prompts, picked=why)
        for arch, why in picked.items()
    ]
    items = _interleaved([kernel_item(kernel) for kernel in kernels], networks)
    return Plan(tuple(items), len(kernels), len(networks), len(census.kernels))


def _numbers(amounts: Amounts, kernels: int, pool: int) -> tuple[int, int]:
    """How many kernels and subnets to plan for."""
    timed = amounts.minutes is not None and amounts.samples is None and amounts.subnets is None
    if timed:
        return kernels, min(pool, math.ceil(kernels / _KERNELS_A_SUBNET))
    samples = _KERNELS if amounts.samples is None else amounts.samples
    subnets = _SUBNETS if amounts.subnets is None else amounts.subnets
    return min(samples, kernels), min(subnets, pool)


def _uncertain(
    space: SearchSpace, device: DeviceProfile, amounts: Amounts, *, seed: int
) -> list[Arch]:
    """Subnets with the widest intervals; others after each calibration."""
    if not amounts.uncertain:
        return []
    record = device.calibration(space.name)
    if record is None:
        raise ConfigError(
            f"--uncertain {amounts.uncertain}: {device.key} has no predictor of {space.name} that "
            "could be uncertain; measure without it first, then `hwnas calibrate`"
        )
    rng = np.random.default_rng((seed, record.samples))
    pool = draw_archs(space, rng, _POOL).unique()
    model = build("latency", CostContext(space=space, device=device), prompts=amounts.prompts)
    batch = estimate(model, pool)
    if batch.lo is None or batch.hi is None:
        raise ConfigError(
            f"--uncertain {amounts.uncertain}: {batch.model_version} has no intervals"
        )
    return [pool[row] for row in most_uncertain(pool, batch.lo, batch.hi, amounts.uncertain)]


def _interleaved(kernels: Sequence[Item], networks: Sequence[Item]) -> Iterator[Item]:
    """Both lists in their order, mixed evenly, so that any beginning has its part of each."""
    places = [((i + 0.5) / len(kernels), 0, i) for i in range(len(kernels))]
    places += [((i + 0.5) / len(networks), 1, i) for i in range(len(networks))]
    for _, which, i in sorted(places):
        yield (kernels, networks)[which][i]


def _run(
    plan: Plan,
    connected: Connected,
    store: MeasurementStore,
    amounts: Amounts,
    retry_failed: bool,
    watch: Watch,
) -> CampaignReport:
    campaign = Campaign(connected.runner, connected.label, store, retry_failed=retry_failed)
    seconds = None if amounts.minutes is None else 60 * amounts.minutes
    timed = seconds is not None
    watch.begin(
        "measuring, seconds" if timed else "measuring",
        math.ceil(seconds) if seconds is not None else campaign.total(plan.items, amounts.again),
    )

    def show(standing: Standing) -> None:
        done = int(standing.seconds) if timed else standing.done
        figures = {"measured": standing.measured, "known": standing.known}
        if standing.failed:
            figures["failed"] = standing.failed
        watch.advance(done, **figures)

    try:
        return campaign.run(
            plan.items, seconds=seconds, again_share=amounts.again, visits=amounts.visits,
            on_sample=show,
        )  # fmt: skip
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"interrupted; {campaign.measured} new measurements are in {store.path}; the same "
            "command goes on"
        ) from error
