"""The SAM spaces: genes, slots against plans, and the optional axes."""

import numpy as np
import pytest

from hwnas.cost import CostContext, build
from hwnas.cost.lowering import lower
from hwnas.errors import ArchError
from hwnas.space.slots import layers_of
from hwnas.workload import GEOMETRIES
from hwnas.workload.sam import EncoderPlan, encoder_layers, plan_of
from search_spaces import sam

ALL = [sam.sam_vit_t, sam.sam_vit_s, sam.sam_vit_b, sam.sam_vit_l, sam.sam_vit_h]


@pytest.mark.parametrize("make", ALL)
def test_slots_give_the_layers_of_the_plan(make):
    space = make()
    geometry = GEOMETRIES[space.name]
    for arch in space.sample(np.random.default_rng(0), 3):
        whole = lower(space, arch).layers
        assert layers_of(space.slots, arch) == whole
        encoder = encoder_layers(plan_of(arch, geometry))
        assert whole[: len(encoder)] == encoder
        assert all(layer.per_prompt for layer in whole[len(encoder) :])


@pytest.mark.parametrize("make", ALL)
def test_the_largest_arch_is_the_stock_encoder(make):
    space = make()
    geometry = GEOMETRIES[space.name]
    plan = plan_of(space.largest(), geometry)
    assert plan == EncoderPlan.uniform(geometry, w_bits=8, a_bits=8, attn_bits=8)


def test_genes_of_a_block():
    names = {gene.name for gene in sam.sam_vit_t().genes}
    assert {f"blocks.4.{name}.{side}" for name in ("qkv", "proj", "lin1", "lin2")
            for side in ("w_bits", "a_bits")} < names  # fmt: skip
    assert {"resolution", "keep.0", "keep.3", "blocks.0.heads", "blocks.0.ratio"} < names
    assert len(names) == 1 + 4 + 12 * 11


def test_options_are_those_of_the_geometry():
    space = sam.sam_vit_l()
    assert space.gene("resolution").options == (448, 672, 896, 1024)
    assert space.gene("keep.2").options == (1, 2, 3, 4, 5, 6)
    assert space.gene("blocks.7.heads").options == (8, 12, 16)
    assert space.gene("blocks.7.ratio").options == (2, 3, 4)
    assert space.gene("blocks.7.lin1.a_bits").options == (2, 3, 4, 8)
    assert space.gene("blocks.7.attn_bits").options == (4, 8)


def test_six_bits_are_an_option():
    space = sam.sam_space(GEOMETRIES["sam-vit-t"], bits=(2, 3, 4, 6, 8))
    assert space.gene("blocks.0.qkv.w_bits").options == (2, 3, 4, 6, 8)


def test_the_last_block_of_a_stage_always_stays():
    space = sam.sam_vit_t()
    archs = space.sample(np.random.default_rng(0), 200)
    for block in (2, 5, 8, 11):
        assert None not in archs.values(f"blocks.{block}.heads")


@pytest.mark.parametrize(
    ("importance", "kept"),
    [(None, [1, 2]), ({0: 1.0, 1: 0.5}, [0, 2]), ({0: 0.5, 1: 1.0, 2: 0.0}, [1, 2])],
)
def test_the_least_important_block_goes_first(importance, kept):
    space = sam.sam_space(GEOMETRIES["sam-vit-t"], importance=importance)
    genes = {"keep.0": 2}
    arch = next(
        a for a in space.sample(np.random.default_rng(1), 200) if a["keep.0"] == genes["keep.0"]
    )
    present = [block for block in range(3) if f"blocks.{block}.heads" in arch.genes]
    assert present == kept


def test_cardinality_of_sam_b():
    # four resolutions; in each of four stages one, two or three blocks of eleven genes
    block = 3 * 3 * 2 * 4**8
    assert sam.sam_vit_b().size() == 4 * (block + block**2 + block**3) ** 4


def test_the_optional_axes_change_layers_and_costs_alike():
    geometry = GEOMETRIES["sam-vit-t"]
    space = sam.sam_space(geometry, token_grid=True, dims=(128, 160))
    assert space.gene("token_grid").options == ("1", "2", "3", "full")
    assert space.gene("dim").options == (128, 160, 192)
    archs = space.sample(np.random.default_rng(4), 25)
    values = build("cost_models.bitops:Bitops", CostContext(space)).evaluate(archs)
    for arch, value in zip(archs, values, strict=True):
        layers = lower(space, arch).layers
        assert layers_of(space.slots, arch) == layers
        encoder = [x for x in layers if not x.per_prompt]
        assert value == sum(x.macs * x.w_bits * x.a_bits for x in encoder) / 1e9
    assert len(set(archs.values("token_grid"))) == 4


def test_heads_must_fit_a_narrow_stream():
    space = sam.sam_space(GEOMETRIES["sam-vit-t"], dims=(128,))
    genes = dict(space.largest().genes) | {"dim": 128}
    with pytest.raises(ArchError, match="heads of block 0 fit dim"):
        space.arch(genes)
    archs = space.sample(np.random.default_rng(0), 100)
    widest = [max(a.get(f"blocks.{b}.heads") or 0 for b in range(12)) for a in archs]
    assert all(h * 64 <= a["dim"] for h, a in zip(widest, archs, strict=True))


def test_a_restricted_space_costs_the_same():
    space = sam.sam_vit_t()
    small = space.restrict({"resolution": [256], "blocks.*.attn_bits": [8]})
    archs = small.sample(np.random.default_rng(0), 10)
    whole, part = (
        build("cost_models.bitops:Bitops", CostContext(s)).evaluate(list(archs))
        for s in (space, small)
    )
    assert whole.tolist() == part.tolist()
