"""What may be timed, and who may time it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

from hwnas.measure.kernel import Kernel
from hwnas.measure.lowering import Step
from hwnas.measure.measurement import Measurement

__all__ = ["Cause", "Network", "Runner", "Timeable", "from_json", "named", "to_json"]

Cause = Literal["build", "unsupported", "timeout", "crash", "connection"]
"""Why a measurement failed, in its `details["cause"]`."""


@dataclass(frozen=True, slots=True)
class Network:
    """A whole subnet as the kernels that it runs, in order.

    Attributes:
        key: The arch's id with what the time includes, as in `Measurement.key`.
        steps: From `hwnas.measure.lowering.steps_of`.
        prompts: How often the steps that belong to a prompt run.
    """

    key: str
    steps: tuple[Step, ...]
    prompts: int = 1

    def kernels(self) -> tuple[Kernel, ...]:
        """Every kernel in the order in which it runs; a prompt's steps once for each prompt."""
        image = [step.kernel for step in self.steps if not step.per_prompt]
        prompt = [step.kernel for step in self.steps if step.per_prompt]
        return tuple(image + prompt * self.prompts)


Timeable = Kernel | Network | tuple[str, tuple[Step, ...], int]


class Runner(Protocol):
    """Times one subject after another on one device in one power mode.

    `time` never raises for what a subject does: a hang, a crash, a lost connection or a kernel
    that computes wrong numbers is a `failed` measurement with its message, and the next subject
    finds the runner as good as new. It raises DeviceError where no subject could be timed.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def time(self, subject: Timeable) -> Measurement:
        """Time `subject` by the device's protocol."""
        ...

    def close(self) -> None:
        """Free the device; the next `time` takes it again."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


def named(subject: Timeable) -> Kernel | Network:
    """Turn the short form of a network, a tuple, into the long one."""
    return Network(*subject) if isinstance(subject, tuple) else subject


def to_json(subject: Kernel | Network) -> dict[str, Any]:
    """Return plain JSON for a worker."""
    if isinstance(subject, Kernel):
        return {"kernel": subject.key}
    steps = [
        {
            "kernel": step.kernel.key,
            "layers": list(step.layers),
            "group": step.group,
            "per_prompt": step.per_prompt,
        }
        for step in subject.steps
    ]
    return {"network": subject.key, "steps": steps, "prompts": subject.prompts}


def from_json(fields: Mapping[str, Any]) -> Kernel | Network:
    """Read `to_json` back."""
    if "kernel" in fields:
        return Kernel.from_key(fields["kernel"])
    steps = tuple(
        Step(
            Kernel.from_key(step["kernel"]), tuple(step["layers"]), step["group"],
            step["per_prompt"],
        )
        for step in fields["steps"]
    )  # fmt: skip
    return Network(fields["network"], steps, fields["prompts"])
