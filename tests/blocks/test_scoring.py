"""Scores of networks against formulas written out."""

import itertools
import math

import numpy as np
import pytest

from hwnas.blocks.comparing import compare_scores
from hwnas.blocks.library import Library, read_library
from hwnas.blocks.scoring import SCORES, block_values, fit_ridge
from hwnas.errors import CostError, DataError
from tests.blocks.made_libraries import library

NAMES = ("conv-d1-r2-w4a4", "window-d2-r3-w4a8", "vit-d2-r4-w8a8", "vit-d3-r4-fp16")
WEIGHTS, CONSTANT = (2.0, 0.5, 0.0), 0.1


@pytest.fixture(scope="module")
def losses():
    rng = np.random.default_rng(0)
    return {(s, name): float(rng.uniform(0.1, 1.0)) for s in range(3) for name in NAMES}


@pytest.fixture(scope="module")
def made(losses):
    def true(blocks):
        return CONSTANT + sum(WEIGHTS[s] * losses[s, block] for s, block in enumerate(blocks))

    some = itertools.islice(itertools.product(NAMES, repeat=3), 0, None, 3)
    networks = {blocks: true(blocks) for blocks in some}
    replaced = {key: 2 * loss for key, loss in losses.items()}
    return library(losses, slots=3, networks=networks, replaced=replaced)


def test_each_score_is_its_formula(made, losses):
    key = (1, NAMES[2])
    own = np.array([losses[1, name] for name in NAMES])
    expected = {
        "sum": losses[key],
        "sum_log": math.log(losses[key] + 1e-4),
        "sum_norm": (losses[key] - own.mean()) / own.std(),
        "fisher": 3 * losses[key],
        "replace1": 2 * losses[key],
    }
    for score, value in expected.items():
        assert block_values(made, score)[key] == pytest.approx(value), score


def test_a_ridge_finds_weights_and_never_a_negative_one(made, losses):
    ridge = fit_ridge(made)
    assert ridge.weights == pytest.approx(WEIGHTS, abs=0.06)
    assert (ridge.weights >= 0).all()
    assert ridge.tau > 0.9
    values = block_values(made, "ridge")
    for network in made.networks:
        total = sum(values[slot, block] for slot, block in enumerate(network.blocks))
        assert total == pytest.approx(network.nsr, abs=0.06)


def test_what_a_score_lacks_is_said(losses):
    bare = library(losses, slots=3, networks={})
    with pytest.raises(CostError, match="10 networks or more, 0 were run"):
        block_values(bare, "ridge")
    with pytest.raises(CostError, match="12 of 12 blocks were not put into the teacher"):
        block_values(bare, "replace1")
    flat = library(dict.fromkeys(losses, 0.5), slots=3, networks={})
    with pytest.raises(CostError, match="same loss"):
        block_values(flat, "sum_norm")
    lines = {key: {**line, "fisher_of_images": None} for key, line in bare.lines.items()}
    with pytest.raises(CostError, match="annotated images"):
        block_values(Library(bare.path, bare.settings, lines), "fisher")


def test_scores_are_compared_with_networks(made):
    found = compare_scores(made, "t")
    by_name = {row.score: row for row in found.rows}
    assert set(by_name) == {*SCORES, "fewer parameters", "fewer MACs", "fewer blocks"}
    assert by_name["sum"].tau == pytest.approx(by_name["replace1"].tau)
    assert 0 < by_name["sum"].tau < by_name["ridge"].tau <= 1
    assert by_name["fewer MACs"].tau is None  # all blocks have as many here
    assert found.networks == len(made.networks)
    with pytest.raises(CostError, match="0 stitched networks"):
        compare_scores(made, "another trial")


def test_a_library_is_packed_and_read_back(made, tmp_path):
    read = read_library(made.pack(tmp_path / "packed.json"))
    assert read.blocks.keys() == made.blocks.keys()
    for key, block in made.blocks.items():
        packed = read.blocks[key]
        assert packed.nsr == pytest.approx(block.nsr, rel=1e-3)
        assert packed.nsr_of_images == pytest.approx(block.nsr_of_images, rel=1e-3)
        assert packed.macs == block.macs
    assert [n.blocks for n in read.networks] == [n.blocks for n in made.networks]
    assert block_values(read, "fisher") == pytest.approx(block_values(made, "fisher"), rel=1e-3)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": "hwnas-blocks-1", "settings": {}}']
)
def test_damaged_libraries_are_refused(content, tmp_path):
    file = tmp_path / "library.json"
    file.write_text(content)
    with pytest.raises(DataError, match=str(file)):
        read_library(file)
    with pytest.raises(DataError, match="no library of blocks there"):
        read_library(tmp_path / "missing")
    with pytest.raises(DataError, match="no library of blocks there"):
        read_library(tmp_path)
