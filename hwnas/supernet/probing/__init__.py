"""Networks made to be probed: weights of their own, fixed batches, a loss, layers that count."""

from hwnas.supernet.probing.probe import (
    BatchSize,
    ImageBatch,
    Probe,
    Probeable,
    ProbedLayer,
    Weights,
    weight_layers,
)
from hwnas.supernet.probing.scoring import ProbeScores, estimate_seeds
from hwnas.supernet.probing.sources import probeable
from hwnas.supernet.probing.weight_laws import draw_weights

__all__ = [
    "BatchSize",
    "ImageBatch",
    "Probe",
    "ProbeScores",
    "Probeable",
    "ProbedLayer",
    "Weights",
    "draw_weights",
    "estimate_seeds",
    "probeable",
    "weight_layers",
]
