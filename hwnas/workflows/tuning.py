"""Looks for faster schedules of the kernels that are going to be measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hwnas.config import MeasuringConfig, make_measuring
from hwnas.device import DeviceProfile
from hwnas.errors import ConfigError, Interrupted
from hwnas.measure.campaign import Item
from hwnas.measure.connection import check_reachable, kernel_cache
from hwnas.measure.kernel import Kernel
from hwnas.workflows.watch import Silent, Watch

__all__ = ["TuningReport", "tune_kernels"]


@dataclass(frozen=True)
class TuningReport:
    """What tuning did.

    Attributes:
        gains: For each kernel that was tuned now, the default's time over the one found; 1 where
            nothing was clearly faster.
        known: Kernels that were tuned before.
        failed: Key and message of those that could not be.
    """

    gains: tuple[float, ...]
    known: int
    failed: tuple[tuple[str, str], ...]

    @property
    def sentence(self) -> str:
        """In words."""
        faster = sorted(gain for gain in self.gains if gain > 1)
        became = f"{len(faster)} became faster"
        if faster:
            became += f" (the median of those {faster[len(faster) // 2]:.2f} times)"
        said = f"tuned {len(self.gains)} kernels, {became}; {self.known} were tuned before"
        if self.failed:
            said += f"; {len(self.failed)} failed, first {': '.join(self.failed[0])}"
        return said


def tune_kernels(
    items: Iterable[Item],
    device: DeviceProfile,
    tries: int,
    *,
    measuring: MeasuringConfig | None = None,
    watch: Watch | None = None,
) -> TuningReport:
    """Try up to `tries` schedules of each kernel of `items`, and keep the fastest for builders.

    What is kept already, after as many tries or more, is not looked for again; so the same call
    goes on after any end. A kernel whose tuning fails keeps its default.

    Raises:
        ConfigError: the number makes no sense, or the device is not tuned: another engine than
            TVM, a GPU, or one behind RPC.
        DeviceError: the device is not this machine, or TVM is missing.
        Interrupted: Ctrl-C; what was found so far is kept.
    """
    from hwnas.measure.runners.tuner import Tuner

    measuring, watch = measuring or make_measuring(), watch or Silent()
    _check(device, tries, measuring)
    cache = kernel_cache(measuring, device)
    kernels = list(dict.fromkeys(kernel for item in items for kernel in _kernels(item)))
    new = _untuned(kernels, device, tries, measuring)
    gains, failed = [], []
    watch.begin(f"trying {tries} schedules a kernel", len(new))
    try:
        with Tuner(device, cache, tries) as tuner:
            for done, kernel in enumerate(new, start=1):
                found = tuner.time(kernel)
                if found.status == "failed":
                    failed.append((kernel.key, found.message))
                else:
                    gains.append(found.details["default_ms"] / found.details["ms"])
                watch.advance(done, faster=sum(gain > 1 for gain in gains))
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"interrupted; schedules of {len(gains)} kernels are in {cache}; the same command "
            "goes on"
        ) from error
    report = TuningReport(tuple(gains), len(kernels) - len(new), tuple(failed))
    watch.remark(report.sentence)
    return report


def _check(device: DeviceProfile, tries: int, measuring: MeasuringConfig) -> None:
    if tries < 1:
        raise ConfigError(f"--tune {tries}: expected 1 or more")
    reasons = {
        f"the runner {measuring.runner} has kernels of its own": measuring.runner != "tvm",
        "schedules are tried on this machine, not over RPC": measuring.remote,
        "kernels of GPUs are scheduled by TVM's rules": device.kind == "gpu",
    }
    for reason, holds in reasons.items():
        if holds:
            raise ConfigError(f"--tune {tries}: {reason}; leave it out")
    check_reachable(measuring, device, to="tuning")


def _kernels(item: Item) -> Iterator[Kernel]:
    from hwnas.measure.tuning import is_tunable

    subject = item.subject()
    found = (subject,) if isinstance(subject, Kernel) else subject.kernels()
    return (kernel for kernel in found if is_tunable(kernel))


def _untuned(
    kernels: Iterable[Kernel], device: DeviceProfile, tries: int, measuring: MeasuringConfig
) -> list[Kernel]:
    from hwnas.measure.builder import target_of
    from hwnas.measure.tuned import FILE, read_tuned

    try:
        known = read_tuned(kernel_cache(measuring, device) / FILE, str(target_of(device)))
    except ImportError:  # the tuner says what is missing
        known = {}
    return [k for k in kernels if k not in known or known[k].tries < tries]
