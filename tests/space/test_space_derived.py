"""Derived spaces: a part of a base in YAML, with the base's layers, ids and supernet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwnas.cost.bitops_report import bitops_report
from hwnas.cost.lowering import lower
from hwnas.errors import ConfigError, SpaceError
from hwnas.space import load_space
from hwnas.space.derived import derived_yaml, optional_axes, with_axes
from hwnas.testing.specs import check_space_spec
from search_spaces.sam import sam_vit_t

KEEP = {"resolution": [256, 512], "blocks.*.lin2.a_bits": [4, 8], "blocks.3.lin2.a_bits": [8]}


def written(folder: Path, text: str, name: str = "small.yaml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_written_and_read_back_keeps_what_was_said(tmp_path: Path) -> None:
    text = derived_yaml("sam-vit-t", KEEP, name="small", description="for a test")
    space = load_space(written(tmp_path, text))
    assert space.gene("resolution").options == (256, 512)
    assert space.gene("blocks.2.lin2.a_bits").options == (4, 8)
    assert space.gene("blocks.3.lin2.a_bits").options == (8,)  # in both patterns
    assert space.gene("blocks.3.lin1.a_bits").options == (2, 3, 4, 8)
    assert space.description == "small, part of sam-vit-t: for a test"
    assert not check_space_spec(written(tmp_path, text))


def test_archs_have_the_ids_layers_and_bitops_of_the_base(tmp_path: Path) -> None:
    base = sam_vit_t()
    space = load_space(written(tmp_path, derived_yaml("sam-vit-t", KEEP)))
    drawn = space.sample(np.random.default_rng(0), 20)
    assert base.archs(drawn).ids == drawn.ids
    assert space.supernet == base.supernet
    assert [slot.name for slot in space.slots] == [slot.name for slot in base.slots]
    for arch in drawn[:5]:
        assert lower(space, arch) == lower(base, arch)
    arch = drawn[0]
    ours, theirs = (bitops_report(s, arch).encoder_bitops for s in (space, base))
    assert ours == theirs
    with pytest.raises(Exception, match="resolution=128; expected one of"):
        space.arch(base.smallest().genes)


def test_a_part_may_be_the_base_of_a_part(tmp_path: Path) -> None:
    written(tmp_path, derived_yaml("sam-vit-t", {"resolution": [256, 384, 512]}), "first.yaml")
    second = load_space(
        written(tmp_path, derived_yaml("first.yaml", {"resolution": [384, 512]}), "second.yaml")
    )
    assert second.gene("resolution").options == (384, 512)
    assert second.name == "sam-vit-t"


def test_a_base_in_python_lies_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from search_spaces.toy import toy\nspace = toy\n")
    space = load_space(written(tmp_path, "base: ./mine.py:space\nkeep: {resolution: [64]}\n"))
    assert space.name == "toy"
    assert space.gene("resolution").options == (64,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base: sam-vit-q\n", ["base 'sam-vit-q'", "sam-vit-"]),
        ("base: sam-vit-t\nkeep: {resolutoin: [256]}\n", ["'resolutoin'; nearest: resolution"]),
        (
            "base: sam-vit-t\nkeep: {resolution: [257], blocks.*.hats: [1]}\n",
            ["2 problems", "keep.resolution: 257 not among", "128, 256, 384, 512", "blocks.*.hats"],
        ),
        (
            "base: sam-vit-t\nkeep: {blocks.*.heads: [3], blocks.1.heads: [2]}\n",
            ["no option is left of blocks.1.heads"],
        ),
        ("base: sam-vit-t\nkeep: {resolution: []}\n", ["keep.resolution", "at least 1 item"]),
        ("base: sam-vit-t\nkeeps: {}\n", ["keeps", "did you mean keep?"]),
        (
            "base: sam-vit-t\naxes: [token_gird]\n",
            ["no optional axis token_gird; nearest: token_grid"],
        ),
        ("base: toy\naxes: [dim]\n", ["no optional axis dim; it offers none"]),
        ("base: small.yaml\n", ["cannot be its own base"]),
        ("base: none.yaml\n", ["cannot read", "none.yaml"]),
        (
            "base: sam-vit-t\naxes: [dim]\nkeep: {dim: [160], blocks.*.heads: [3]}\n",
            ["1 problem"],
        ),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_space(written(tmp_path, text))
    for word in words:
        assert word in str(caught.value)


def test_optional_axes_are_added_to_what_was_kept() -> None:
    base = sam_vit_t().restrict({"resolution": [256, 512]})
    assert optional_axes(base) == ("token_grid", "dim")
    wide = with_axes(base, ["token_grid", "dim"])
    assert optional_axes(wide) == ()
    assert wide.gene("token_grid").options == ("1", "2", "3", "full")
    assert wide.gene("dim").options == (160, 176, 192)
    assert wide.gene("resolution").options == (256, 512)
    tops = [bitops_report(s, s.largest()).encoder_bitops for s in (base, wide)]
    assert tops[0] == tops[1]
    with pytest.raises(SpaceError, match="no optional axis"):
        with_axes(base, ["width"])
