"""Training from scratch: it learns, it repeats itself, it stops in time; scores by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hwnas.data.tiles import Tiles
from hwnas.errors import ConfigError, TrainingError
from hwnas.supernet.scratch import (
    BottleneckNet,
    CountTask,
    MaskTask,
    Recipe,
    TileSet,
    predict,
    task_of,
    tile_loss,
    train,
)
from hwnas.workload.cnn_plan import CNNS, plan_of
from search_spaces.mobile_cnn import tile_cnn, tile_cnn_mask

QUICK = Recipe(steps=20, batch=16, rate=1e-2)


def striped(n: int = 64, side: int = 48) -> TileSet:
    """Four classes by brightness; easy."""
    targets = torch.arange(n) % 4
    noise = torch.randint(0, 30, (n, 3, side, side), generator=torch.Generator().manual_seed(0))
    pixels = (noise + 60 * targets[:, None, None, None]).to(torch.uint8)
    return TileSet(pixels, targets, np.arange(n) // 4)


def network(space=None, seed: int = 0) -> BottleneckNet:
    space = space or tile_cnn()
    return BottleneckNet(plan_of(space.smallest(), CNNS[space.name]), seed)


def test_a_network_learns_what_is_easy() -> None:
    tiles, task = striped(), CountTask((1, 2, 3))
    own = network()
    before, _ = task.score(predict(own, tiles), tiles)
    done = train(own, tiles, Recipe(steps=60, batch=16, rate=1e-2), seed=0)
    after, error = task.score(predict(own, tiles), tiles)
    assert done.steps == 60
    assert before < 0.6
    assert after > 0.9
    assert error is not None


def test_a_training_repeats_itself() -> None:
    found = []
    for seed in (1, 1, 2):
        own = network()
        train(own, striped(), QUICK, seed=seed)
        found.append(own.stem.weight.detach().clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_slow_training_is_given_up() -> None:
    done = train(network(), striped(), Recipe(steps=10**6, batch=4, max_seconds=0.2), seed=0)
    assert 0 < done.steps < 10**6


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    own = network()
    nn.init.constant_(own.ending.classifier.weight, float("inf"))
    with pytest.raises(TrainingError, match="loss of step 0"):
        train(own, striped(), QUICK, seed=0)


def test_masks_turn_with_their_tiles() -> None:
    # the mask is where the tile is bright: a network of one step a turn would unlearn it
    rng = torch.Generator().manual_seed(1)
    bright = torch.zeros(32, 48, 48, dtype=torch.int64)
    for row, corner in enumerate(torch.randint(0, 24, (32, 2), generator=rng)):
        bright[row, corner[0] : corner[0] + 24, corner[1] : corner[1] + 24] = 1
    tiles = TileSet(
        (200 * bright)[:, None].repeat(1, 3, 1, 1).to(torch.uint8), bright, np.arange(32)
    )
    own = network(tile_cnn_mask())
    train(own, tiles, Recipe(steps=60, batch=8, rate=1e-2), seed=0)
    assert MaskTask().score(predict(own, tiles), tiles)[0] > 0.8


def test_scores_by_hand() -> None:
    tiles = TileSet(torch.zeros(4, 3, 2, 2), torch.tensor([0, 1, 1, 0]), np.array([0, 0, 1, 1]))
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0], [0.0, 1.0]])
    value, error = CountTask((1,)).score(logits, tiles)
    assert value == 0.75
    assert error == pytest.approx(0.25)  # jackknife: leaving out an image gives 0.5 and 1
    truth = torch.tensor([[[1, 1], [0, 0]], [[0, 0], [0, 1]]])
    own = TileSet(torch.zeros(2, 3, 2, 2), truth, np.array([0, 1]))
    said = torch.tensor([[[1, 0], [1, 0]], [[0, 0], [0, 1]]])
    pixels = torch.nn.functional.one_hot(said, 2).movedim(-1, 1).float()
    assert MaskTask().score(pixels, own)[0] == pytest.approx(2 / 4)


def test_the_loss_follows_the_targets() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    assert tile_loss(logits, torch.tensor([0, 1])).item() == pytest.approx(np.log(2))
    sure = torch.tensor([[[[-9.0]], [[9.0]]]])
    assert tile_loss(sure, torch.ones(1, 1, 1, dtype=torch.int64)) < 0.3
    assert tile_loss(sure, torch.zeros(1, 1, 1, dtype=torch.int64)) > 1


def test_classes_are_made_of_the_tiles() -> None:
    counts = np.repeat(np.arange(8), 5)
    tiles = Tiles(
        np.zeros((40, 8, 8, 3), np.uint8), np.zeros((40, 8, 8), np.uint8), counts, np.zeros(40, int)
    )
    task = task_of(CNNS["tile-cnn"], tiles)
    assert task == CountTask((2, 4, 6))
    chosen = task.choose(tiles, 20, np.random.default_rng(0))
    assert torch.bincount(chosen.targets).tolist() == [5] * 4
    assert chosen.pixels.shape == (20, 3, 8, 8)


def test_options_are_checked_together() -> None:
    with pytest.raises(ConfigError, match=r"--steps 0.*--batch 1.*--rate 0"):
        Recipe(steps=0, batch=1, rate=0)
