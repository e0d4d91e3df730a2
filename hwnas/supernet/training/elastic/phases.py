"""The schedule: which axes and bit-widths are open when.

Orders: architecture before bits (OFA, then QFA's second half), bits before architecture, or all at
once. Within the architecture the order is resolution, depth, width. Sources: Cai et al., "Once for
All" (2020); Shen et al., "Once Quantization-Aware Training" (2021) for lower bits that inherit from
higher ones; which of them the mixed-precision supernet literature uses is not published.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwnas.config.training import TrainConfig

__all__ = ["AXES", "TEACHER", "Phase", "phases_of"]

AXES = ("resolution", "depth", "width")
TEACHER = "teacher"
_ALL = (*AXES, "other")


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of training with one set of subnets.

    `roles` of genes and `bits` are open, `opens` are the bit-widths that were not before; no bits
    mean the largest network in floating point. `rate` multiplies all learning rates.
    """

    name: str
    steps: int
    roles: tuple[str, ...]
    bits: tuple[int, ...]
    opens: tuple[int, ...]
    rate: float = 1.0


def phases_of(config: TrainConfig) -> list[Phase]:
    """The phases of a recipe in order, those without steps left out.

    A bit-width whose phase has no steps opens with the next one that has.
    """
    steps, bits, later = config.steps, config.bits, config.rates.later_phases
    phases = [Phase(TEACHER, steps.teacher, (), (), ())]
    if config.order == "joint":
        total = steps.joint or 3 * steps.axes + sum(steps.bits)
        phases.append(Phase("joint", total, _ALL, bits, ()))
    elif config.order == "arch_then_bits":
        phases += _axes(steps.axes, bits[:1], 1.0)
        phases += _lower(config, _ALL)
    else:
        phases.append(Phase(f"bits-{bits[0]}", steps.axes, (), bits[:1], ()))
        phases += _lower(config, ())
        phases += _axes(steps.axes, bits if config.keep_open else bits[-1:], later)
    return _with_opens([phase for phase in phases if phase.steps])


def _axes(steps: int, bits: tuple[int, ...], rate: float) -> list[Phase]:
    found = []
    for count, axis in enumerate(AXES, start=1):
        roles = _ALL if count == len(AXES) else AXES[:count]
        found.append(Phase(axis, steps, roles, bits, (), rate))
    return found


def _lower(config: TrainConfig, roles: tuple[str, ...]) -> list[Phase]:
    found = []
    for place, (bits, steps) in enumerate(zip(config.bits[1:], config.steps.bits, strict=False)):
        open_bits = config.bits[: place + 2] if config.keep_open else (bits,)
        found.append(Phase(f"bits-{bits}", steps, roles, open_bits, (), config.rates.later_phases))
    return found


def _with_opens(phases: list[Phase]) -> list[Phase]:
    seen: set[int] = set()
    found = []
    for phase in phases:
        opens = tuple(b for b in phase.bits if b not in seen)
        seen.update(phase.bits)
        found.append(Phase(phase.name, phase.steps, phase.roles, phase.bits, opens, phase.rate))
    return found
