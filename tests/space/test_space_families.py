"""Three kinds of network described with the declarations alone, without a change to the core."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hwnas.space import (
    Declaration,
    SearchSpace,
    at_most,
    choice,
    implies,
    link,
    ordinal,
    repeat,
    require,
)

LINEARS = ("qkv", "proj", "lin1", "lin2")


def sam_b() -> SearchSpace:
    """SAM-B: four stages of three blocks; the last, global block of a stage is never dropped."""
    bits = [
        ordinal(f"{linear}.{side}", [2, 3, 4, 8], role="bits")
        for linear in LINEARS
        for side in ("w_bits", "a_bits")
    ]
    block: list[Declaration] = [
        ordinal("heads", [6, 9, 12], role="width"),
        ordinal("ratio", [2, 3, 4], role="width"),
        *bits,
        ordinal("attn_bits", [4, 8], role="bits"),
    ]
    declarations: list[Declaration] = [
        ordinal("resolution", [448, 672, 896, 1024], role="resolution")
    ]
    for stage, order in enumerate([(2, 1, 0), (5, 3, 4), (8, 7, 6), (11, 9, 10)]):
        depth = ordinal(f"keep.{stage}", [1, 2, 3], role="depth")
        blocks = repeat("blocks", sorted(order), block, depth=depth.name, keep_order=order)
        declarations += [depth, blocks]
    return SearchSpace("sam-b", declarations)


def mobile_cnn() -> SearchSpace:
    """A CNN of inverted residuals: for each stage a depth, for each block kernel and expansion."""
    block = [choice("kernel", [3, 5, 7]), ordinal("expansion", [3, 4, 6], role="width")]
    stage = [
        ordinal("depth", [2, 3, 4], role="depth"),
        ordinal("width", [16, 24, 32], role="width"),
        repeat("blocks", 4, block, depth="depth"),
    ]
    return SearchSpace(
        "cnn",
        [
            ordinal("resolution", [128, 160, 192, 224], role="resolution"),
            repeat("stages", 5, stage),
        ],
        constraints=[
            *(at_most(f"stages.{i}.width", f"stages.{i + 1}.width") for i in range(4)),
            implies({"resolution": 128}, {"stages.0.blocks.*.kernel": [3, 5]}),
        ],
    )


def translator() -> SearchSpace:
    """An encoder-decoder transformer; encoder and decoder have the same embedding width."""
    heads = ordinal("heads", [4, 8, 16], role="width")
    ffn = ordinal("ffn", [512, 1024, 2048], role="width")
    width = ordinal("width", [256, 512], role="width")
    decoder = [heads, ordinal("cross_heads", [4, 8, 16], role="width"), ffn]
    return SearchSpace(
        "translator",
        [
            repeat("embed", 2, [width]),
            ordinal("decoder_depth", [1, 2, 3, 4], role="depth"),
            repeat("encoder", 4, [heads, ffn]),
            repeat("decoder", 4, decoder, depth="decoder_depth"),
        ],
        links=[link("embed.*.width"), link("decoder.*.heads", "decoder.*.cross_heads")],
        constraints=[
            require(f"heads of layer {i}", ["embed.0.width", f"encoder.{i}.heads"], divides)
            for i in range(4)
        ],
    )


def divides(width: int, heads: int) -> bool:
    return width // heads >= 32


def test_sam_b_has_the_genes_and_the_size_of_the_specification() -> None:
    space = sam_b()
    assert len(space.genes) == 1 + 4 + 12 * (2 + 8 + 1)
    assert space.n_var == len(space.genes)
    block = 3 * 3 * 4**8 * 2
    stage = block + block**2 + block**3
    assert space.size_is_exact
    assert space.size() == 4 * stage**4  # different networks
    genomes = math.prod(int(s) for s in space.variable_sizes)  # what the literature counts
    assert genomes == 4 * 3**4 * block**12
    assert 75 < math.log10(genomes) < 76


def test_sam_b_drops_blocks_in_the_given_order_and_never_the_last() -> None:
    space = sam_b()
    archs = space.sample(np.random.default_rng(0), 500)
    heads = {i: archs.values(f"blocks.{i}.heads") for i in range(12)}
    for stage, order in enumerate([(2, 1, 0), (5, 3, 4), (8, 7, 6), (11, 9, 10)]):
        keep = archs.values(f"keep.{stage}")
        for rank, block in enumerate(order):
            present = np.array([h is not None for h in heads[block]])
            assert (present == (keep > rank)).all()
    assert not any(h is None for h in heads[2])


def test_sam_b_reference_designs_are_uniform_at_each_resolution() -> None:
    designs = sam_b().reference_designs()
    labels = [label for label, _ in designs]
    assert labels[:2] == ["largest", "smallest"]
    assert len(set(labels)) == len(labels) == 2 + 4 * 4
    uniform = dict(designs)["uniform 3 bit, resolution 448"]
    assert uniform["resolution"] == 448
    assert {uniform[f"blocks.{i}.{name}.w_bits"] for i in range(12) for name in LINEARS} == {3}
    assert uniform["blocks.0.attn_bits"] == 4  # the nearest that attention has
    assert uniform["blocks.0.heads"] == 12
    assert dict(designs)["uniform 8 bit, resolution 1024"] == dict(designs)["largest"]


def test_sam_b_is_encoded_and_decoded_by_the_thousand() -> None:
    space = sam_b()
    archs = space.sample(np.random.default_rng(1), 2000)
    x = space.encode(archs)
    assert (space.decode(x).matrix == archs.matrix).all()
    assert space.archs(list(archs[:50])).ids == archs[:50].ids
    assert space.features(archs).shape == (2000, 137 + 8)  # two droppable blocks a stage


def test_cnn_has_a_depth_inside_each_stage() -> None:
    space = mobile_cnn()
    genes = dict(space.smallest().genes)
    assert genes["stages.3.depth"] == 2
    assert "stages.3.blocks.1.kernel" in genes
    assert "stages.3.blocks.2.kernel" not in genes
    block = 3 * 3
    blocks = sum(block**d for d in (2, 3, 4))
    narrow = sum((2 * 3) ** d for d in (2, 3, 4))  # kernel 3 or 5 at the smallest resolution
    widths = math.comb(3 + 5 - 1, 5)  # ascending sequences of five out of three
    assert space.size_is_exact
    assert space.size() == widths * blocks**4 * (3 * blocks + narrow)


def test_cnn_samples_meet_the_constraints() -> None:
    archs = mobile_cnn().sample(np.random.default_rng(0), 300)
    widths = np.stack([archs.values(f"stages.{i}.width") for i in range(5)], axis=1).astype(int)
    assert (np.diff(widths, axis=1) >= 0).all()
    small = [a for a in archs if a["resolution"] == 128]
    assert small
    assert all(a.get(f"stages.0.blocks.{i}.kernel") != 7 for a in small for i in range(4))


def test_cnn_kernel_is_unordered_for_search_and_predictors() -> None:
    space = mobile_cnn()
    ordered = {
        v.name: bool(o) for v, o in zip(space.variables, space.variable_ordered, strict=True)
    }
    assert not ordered["stages.0.blocks.0.kernel"]
    assert ordered["stages.0.blocks.0.expansion"]
    assert "stages.0.blocks.0.kernel=5" in space.feature_names


def test_translator_ties_widths_and_checks_heads() -> None:
    space = translator()
    names = [v.name for v in space.variables]
    assert "embed.0.width" in names
    assert "embed.1.width" not in names
    assert names.count("decoder.0.heads") == 1
    assert "decoder.3.cross_heads" not in names
    arch = space.largest()
    assert arch["embed.1.width"] == arch["embed.0.width"] == 512
    ffn = sum(3**d for d in (1, 2, 3, 4))
    encoder = (2 * 3) ** 4 + (3 * 3) ** 4  # width 256 leaves 4 and 8 heads, 512 leaves all
    assert space.size() == 3 * ffn * encoder


def test_translator_refuses_heads_that_do_not_fit() -> None:
    space = translator()
    genes = dict(space.largest().genes) | {"embed.0.width": 256, "embed.1.width": 256}
    problems = space.validate(genes)
    assert len(problems) == 4
    assert "heads of layer 0" in problems[0]
    assert "embed.0.width=256, encoder.0.heads=16" in problems[0]


@pytest.mark.parametrize("build", [sam_b, mobile_cnn, translator])
def test_every_family_keeps_the_promises_of_an_encoding(build: object) -> None:
    assert callable(build)
    space = build()
    archs = space.sample(np.random.default_rng(3), 200)
    assert list(space.decode(space.encode(archs))) == list(archs)
    assert not any(space.validate(a.genes) for a in archs)
    near = space.neighbours(archs[0])
    assert len(near) == len(near.unique())
    assert archs[0].id not in near.ids
    features = space.features(archs)
    assert np.isfinite(features).all()
    assert features.shape[1] == len(space.feature_names)
