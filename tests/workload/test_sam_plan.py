"""Plans: reading genes, the optional axes, and what is refused."""

import pytest

from hwnas.errors import ArchError
from hwnas.workload import GEOMETRIES
from hwnas.workload.sam import BlockPlan, EncoderPlan, encoder_layers, plan_of

T = GEOMETRIES["sam-vit-t"]


def genes_of(blocks, resolution=256):
    genes = {"resolution": resolution}
    for block in blocks:
        genes |= {
            f"blocks.{block}.heads": 2,
            f"blocks.{block}.ratio": 3,
            f"blocks.{block}.attn_bits": 4,
        }
        for offset, name in enumerate(("qkv", "proj", "lin1", "lin2")):
            genes |= {
                f"blocks.{block}.{name}.w_bits": 2 + offset,
                f"blocks.{block}.{name}.a_bits": 6 + offset,
            }
    return genes


def test_a_plan_holds_the_blocks_whose_genes_are_there():
    plan = plan_of(genes_of((2, 5, 7, 8, 11)), T)
    assert [block.index for block in plan.blocks] == [2, 5, 7, 8, 11]
    assert plan.blocks[2] == BlockPlan(7, 2, 3 * 192, (2, 3, 4, 5), (6, 7, 8, 9), 4)
    assert (plan.resolution, plan.grid, plan.width) == (256, 16, 192)


def test_a_missing_gene_is_named():
    genes = genes_of((2, 5))
    del genes["blocks.5.lin1.a_bits"]
    with pytest.raises(ArchError, match=r"blocks\.5\.lin1\.a_bits is None"):
        plan_of(genes, T)


def test_a_resolution_between_patches_is_refused():
    with pytest.raises(ArchError, match="not a multiple of the patch side 16"):
        plan_of(genes_of((2,), resolution=250), T)


def test_no_blocks_are_refused():
    with pytest.raises(ArchError, match="no block is kept"):
        plan_of({"resolution": 256}, T)


def test_a_pooled_grid_halves_the_map_from_its_stage_on():
    genes = genes_of(range(12)) | {"token_grid": "2"}
    plan = plan_of(genes, T)
    assert [plan.grid_of(block) for block in range(12)] == [16] * 6 + [8] * 6
    layers = encoder_layers(plan)
    names = [layer.name for layer in layers]
    assert names.index("pool") == names.index("blocks.6.norm1") - 1
    assert "neck.resize" in names
    plain = {layer.name: layer for layer in encoder_layers(plan_of(genes_of(range(12)), T))}
    for layer in layers:
        if layer.kind == "linear":
            quarter = 4 if int(layer.group.split(".")[1]) >= 6 else 1
            assert layer.macs * quarter == plain[layer.name].macs
        if layer.name.startswith("neck.") and layer.name in plain:
            assert layer.macs == plain[layer.name].macs


def test_the_full_grid_is_the_grid_without_the_gene():
    genes = genes_of(range(12))
    assert plan_of(genes | {"token_grid": "full"}, T) == plan_of(genes, T)


def test_a_narrower_stream_keeps_heads_and_hidden_units():
    genes = genes_of(range(12)) | {"dim": 128}
    wide, narrow = plan_of(genes_of(range(12)), T), plan_of(genes, T)
    assert narrow.width == 128
    by_name = {layer.name: layer for layer in encoder_layers(wide)}
    for layer in encoder_layers(narrow):
        if layer.kind == "linear":
            assert layer.macs * 192 == by_name[layer.name].macs * 128
        if layer.kind == "matmul":
            assert layer.macs == by_name[layer.name].macs


def test_a_uniform_plan_in_fp32_has_no_quantizer_anywhere():
    layers = encoder_layers(EncoderPlan.uniform(T))
    assert all(layer.scales == 0 for layer in layers)
    assert {layer.w_bits for layer in layers if layer.macs} == {32}


def test_a_tensor_is_written_with_the_bits_that_its_reader_takes():
    plan = plan_of(genes_of(range(12)), T)
    by_name = {layer.name: layer for layer in encoder_layers(plan)}
    for block in range(12):
        of = lambda name, b=block: by_name[f"blocks.{b}.{name}"]  # noqa: E731
        assert of("norm1").out_bits == of("qkv").a_bits
        assert of("qkv").out_bits == of("qk").a_bits == of("qk").w_bits
        assert of("softmax").out_bits == of("av").a_bits
        assert of("av").out_bits == of("proj").a_bits
        assert of("norm2").out_bits == of("lin1").a_bits
        assert of("gelu").out_bits == of("lin2").a_bits
        assert of("qk").out_elems == of("softmax").in_elems
        assert of("av").out_elems == of("proj").in_elems
        assert of("lin1").out_elems == of("gelu").in_elems
