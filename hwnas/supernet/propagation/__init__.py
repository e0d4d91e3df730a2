"""How signals pass through the projections of an encoder, forward and backward."""

from __future__ import annotations

from hwnas.supernet.propagation.comparing import compare
from hwnas.supernet.propagation.probe import PropagationProbe, probing_student
from hwnas.supernet.propagation.projections import PROJECTIONS, Projection, projections_of
from hwnas.supernet.propagation.signals import Signals

__all__ = [
    "PROJECTIONS",
    "Projection",
    "PropagationProbe",
    "Signals",
    "compare",
    "probing_student",
    "projections_of",
]
