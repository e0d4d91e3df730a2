"""Small networks of inverted bottlenecks that are trained from scratch, one at a time."""

from hwnas.supernet.scratch.network import BottleneckNet
from hwnas.supernet.scratch.tasks import CountTask, MaskTask, TileSet, TileTask, task_of, tile_loss
from hwnas.supernet.scratch.training import Recipe, Trained, predict, train
from hwnas.supernet.scratch.untrained import SPAN, UntrainedCnn, build

__all__ = [
    "SPAN",
    "BottleneckNet",
    "CountTask",
    "MaskTask",
    "Recipe",
    "TileSet",
    "TileTask",
    "Trained",
    "UntrainedCnn",
    "build",
    "predict",
    "task_of",
    "tile_loss",
    "train",
]
