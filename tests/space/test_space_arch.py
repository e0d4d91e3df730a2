"""One architecture, its spellings and its id; many of them in a matrix."""

from __future__ import annotations

import hashlib
import json
import pickle

import numpy as np
import pytest

from hwnas.errors import ArchError, SpaceError
from hwnas.space import Arch, Archs, SearchSpace, at_most, choice, link, ordinal, repeat


@pytest.fixture
def space() -> SearchSpace:
    block = [ordinal("width", [16, 32, 64]), choice("act", ["relu", "gelu"])]
    return SearchSpace(
        "small",
        [
            ordinal("resolution", [96, 128]),
            ordinal("depth", [1, 2], role="depth"),
            repeat("blocks", 2, block, depth="depth", keep_order=[1, 0]),
            choice("residual", [False, True]),
        ],
    )


def genes(**changed: object) -> dict[str, object]:
    whole: dict[str, object] = {"resolution": 96, "depth": 2, "residual": True}
    for i in range(2):
        whole |= {f"blocks.{i}.width": 32, f"blocks.{i}.act": "gelu"}
    return whole | changed


def test_id_is_the_hash_of_the_canonical_json(space: SearchSpace) -> None:
    arch = space.arch(genes())
    text = json.dumps({"space": "small", "genes": genes()}, sort_keys=True, separators=(",", ":"))
    assert arch.id == hashlib.sha256(text.encode()).hexdigest()[:12]
    assert arch.to_json() == text
    assert space.archs([arch]).ids == (arch.id,)


def test_id_of_a_text_outside_ascii_is_the_same_one_by_one_and_in_a_batch() -> None:
    space = SearchSpace('naïve "space"', [choice("a", ["é", '"', "\\"]), choice("b", [0.5, 1e20])])
    archs = next(iter(space.enumerate()))
    assert archs.ids == tuple(a.id for a in archs)


def test_genes_of_dropped_blocks_do_not_count(space: SearchSpace) -> None:
    spellings = [genes(depth=1), genes(depth=1, **{"blocks.0.width": 64})]
    short = {k: v for k, v in genes(depth=1).items() if not k.startswith("blocks.0")}
    archs = [space.arch(g) for g in [*spellings, short]]
    assert len({a.id for a in archs}) == 1
    assert len(set(archs)) == 1
    assert "blocks.0.width" not in archs[0].genes
    assert archs[0].get("blocks.0.width") is None


def test_every_problem_is_named_at_once(space: SearchSpace) -> None:
    wrong = genes(resolution=100, dpth=1, **{"blocks.1.act": ["relu"]})
    del wrong["blocks.0.width"]
    with pytest.raises(ArchError) as caught:
        space.arch(wrong)
    text = str(caught.value)
    assert "4 problems" in text
    assert "resolution=100; expected one of [96, 128]" in text
    assert "no gene 'dpth'; nearest: depth" in text
    assert "blocks.1.act=['relu']" in text
    assert "blocks.0.width is missing; expected one of [16, 32, 64]" in text


def test_an_illegal_option_of_a_dropped_block_is_a_mistake_too(space: SearchSpace) -> None:
    assert space.validate(genes(depth=1, **{"blocks.0.width": 17}))


def test_booleans_are_not_numbers(space: SearchSpace) -> None:
    assert space.validate(genes(residual=1))
    assert space.validate(genes(depth=True))
    assert not space.validate(genes(depth=2.0, resolution=np.int64(96), residual=np.True_))


def test_json_of_another_space_is_refused(space: SearchSpace) -> None:
    other = Arch("other", {"a": 1})
    with pytest.raises(ArchError, match="'other'; expected one of 'small'"):
        space.arch_from_json(other.to_json())
    with pytest.raises(ArchError, match="'other'; expected one of 'small'"):
        space.encode([other])


@pytest.mark.parametrize("text", ["{", "[]", '{"genes": {}}', '{"space": "small", "genes": [1]}'])
def test_json_of_another_form_is_refused(space: SearchSpace, text: str) -> None:
    with pytest.raises(ArchError, match="expected"):
        space.arch_from_json(text)


def test_arch_cannot_be_changed(space: SearchSpace) -> None:
    arch = space.arch(genes())
    with pytest.raises(TypeError):
        arch.genes["depth"] = 1  # type: ignore[index]
    with pytest.raises(AttributeError):
        arch.space = "x"  # type: ignore[misc]


def test_arch_and_archs_survive_pickling(space: SearchSpace) -> None:
    archs = space.sample(np.random.default_rng(0), 5)
    again = pickle.loads(pickle.dumps(archs))
    assert again.ids == archs.ids
    assert again.space.name == "small"
    assert pickle.loads(pickle.dumps(archs[0])) == archs[0]
    assert space.archs(again).ids == archs.ids


def test_archs_behave_like_a_sequence(space: SearchSpace) -> None:
    archs = space.sample(np.random.default_rng(0), 20)
    assert len(archs[3:7]) == 4
    assert archs[3:7][0] == archs[3]
    assert archs[-1] == list(archs)[-1]
    assert archs.take([4, 2])[1] == archs[2]
    assert len(archs.take([])) == 0
    assert Archs.of(space, archs) is archs
    assert Archs.of(space, list(archs)).ids == archs.ids
    assert len(Archs.of(space, [])) == 0
    with pytest.raises(IndexError):
        archs[20]
    with pytest.raises(ValueError, match="read-only"):
        archs.matrix[0, 0] = 1


def test_unique_keeps_the_first_of_each_in_order(space: SearchSpace) -> None:
    archs = space.sample(np.random.default_rng(0), 200)
    expected = list(dict.fromkeys(archs.ids))
    assert list(archs.unique().ids) == expected
    assert len(expected) < 200


def test_values_are_options_or_none(space: SearchSpace) -> None:
    archs = space.sample(np.random.default_rng(0), 50)
    assert list(archs.values("blocks.0.act")) == [a.get("blocks.0.act") for a in archs]
    with pytest.raises(SpaceError, match="nearest: residual"):
        archs.values("residul")


def test_tied_genes_are_said_once_and_must_agree() -> None:
    space = SearchSpace(
        "tied",
        [ordinal("depth", [1, 2]), repeat("b", 2, [ordinal("w", [1, 2, 3])], depth="depth")],
        links=[link("b.*.w")],
    )
    assert space.n_var == 2
    assert space.arch({"depth": 2, "b.1.w": 3}) == space.arch({"depth": 2, "b.0.w": 3, "b.1.w": 3})
    assert "tied genes differ" in space.validate({"depth": 2, "b.0.w": 1, "b.1.w": 3})[0]
    assert space.arch({"depth": 1, "b.0.w": 1, "b.1.w": 3})["b.0.w"] == 1
    assert space.validate({"depth": 2}) == ["b.0.w is missing; expected one of [1, 2, 3]"]


def test_archs_of_a_foreign_row_that_breaks_a_rule_are_refused() -> None:
    free = SearchSpace("s", [ordinal("a", [1, 2]), ordinal("b", [1, 2])])
    bound = SearchSpace(
        "s", [ordinal("a", [1, 2]), ordinal("b", [1, 2])], constraints=[at_most("a", "b")]
    )
    with pytest.raises(ArchError, match=r"at_most\(a, b\): a=2, b=1 is not allowed"):
        bound.archs(free.archs([free.arch({"a": 2, "b": 1})]))


def test_decode_names_what_is_out_of_range(space: SearchSpace) -> None:
    x = space.encode(space.sample(np.random.default_rng(0), 2))
    wide = x.copy()
    wide[1, 0] = 2
    with pytest.raises(ArchError, match="'resolution' takes 0 to 1"):
        space.decode(wide)
    with pytest.raises(ArchError, match=r"expected \(n, 7\)"):
        space.decode(x[0])
    with pytest.raises(ArchError, match="expected integers"):
        space.decode(x + 0.5)
    assert len(space.decode(np.zeros((0, 7)))) == 0
