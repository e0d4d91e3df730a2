"""Sums of errors: clips, intervals, files, and a supernet that measures itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cost_models.sensitivity import Sensitivity
from cost_models.sensitivity_terms import ErrorTable, ErrorTerm
from hwnas.cost import CostContext
from hwnas.errors import CostError
from hwnas.search import Objective, Problem, run_exhaustive
from hwnas.search.exact import run_exact
from hwnas.space import SearchSpace, ordinal, repeat

IMAGES = 3


def bits_space(*extra: Any) -> SearchSpace:
    block = [ordinal("w_bits", (2, 4, 8), role="bits"), ordinal("a_bits", (4, 8), role="bits")]
    return SearchSpace(
        "net",
        [
            ordinal("resolution", (64, 128), role="resolution"),
            ordinal("depth", (1, 2, 3), role="depth"),
            repeat("blocks", 3, block, depth="depth"),
            *extra,
        ],
    )


class Measuring:
    """A supernet that makes up its errors, 4^-bits plus noise, and counts how often."""

    def __init__(self) -> None:
        self.calls: list[int | None] = []

    def error_terms(
        self, data: Any, *, kind: str, resolution: int | None, images: int, seed: int
    ) -> list[ErrorTerm]:
        self.calls.append(resolution)
        rng = np.random.default_rng((seed, resolution or 0))
        w, a = 4.0 ** -np.array([2, 4, 8]), 4.0 ** -np.array([4, 8])
        terms = []
        for block in range(3):
            noise = rng.random((images, 3, 2)) * 0.1
            genes = (f"blocks.{block}.w_bits", f"blocks.{block}.a_bits")
            errors = (w[:, None] + a) * (1 + noise) * (block + 1) * (resolution or 0)
            terms.append(ErrorTerm(f"blocks.{block}", genes, errors, genes))
        dropped = np.repeat([[7.0, 3.0, 0.0]], images, axis=0)
        return [*terms, ErrorTerm("depth", ("depth",), dropped, ("depth",))]


class Cost:
    """Bits of all weights and activations."""

    name, unit, direction = "bits", "b", "min"

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def terms(self) -> list[tuple[str, ...]]:
        return [(f"blocks.{i}.w_bits", f"blocks.{i}.a_bits") for i in range(3)]

    def evaluate(self, archs: Any) -> np.ndarray:
        return np.array([
            sum(float(v) for k, v in arch.genes.items() if k.endswith("bits")) for arch in archs
        ])  # fmt: skip


def model(space: SearchSpace, net: Measuring, **options: Any) -> Sensitivity:
    context = CostContext(
        space, supernet=lambda: net, data=list, supernet_source="a", data_source="b"
    )  # fmt: skip
    return Sensitivity(context, **{"images": IMAGES, **options})


def test_values_are_sums_of_means_and_absent_groups_add_nothing() -> None:
    space, net = bits_space(), Measuring()
    sensitivity = model(space, net)
    archs = space.sample(np.random.default_rng(1), 12)
    tables = {r: net.error_terms([], kind="gradient", resolution=r, images=IMAGES, seed=0)
              for r in (64, 128)}  # fmt: skip
    expected = []
    for arch in archs:
        *blocks, depth = tables[arch["resolution"]]
        total = depth.values.mean(axis=0)[arch["depth"] - 1]
        for i, block in enumerate(blocks[: arch["depth"]]):
            w = (2, 4, 8).index(arch[f"blocks.{i}.w_bits"])
            a = (4, 8).index(arch[f"blocks.{i}.a_bits"])
            total += block.values.mean(axis=0)[w, a]
        expected.append(total)
    np.testing.assert_allclose(sensitivity.evaluate(archs), expected)
    assert sensitivity.evaluate([]).shape == (0,)
    parts = sensitivity.breakdown(archs[0])
    assert sum(parts.values()) == pytest.approx(expected[0])


def test_interval_is_one_standard_error_over_images() -> None:
    space = bits_space()
    archs = space.sample(np.random.default_rng(2), 4)
    batch = model(space, Measuring()).estimate(archs)
    assert batch.lo is not None
    assert (batch.lo < batch.value).all()
    np.testing.assert_allclose(batch.hi - batch.value, batch.value - batch.lo)
    assert model(space, Measuring(), images=1).estimate(archs).lo is None


def test_each_resolution_is_measured_once_and_when_it_is_needed() -> None:
    net = Measuring()
    space = bits_space().freeze({"resolution": 64})
    sensitivity = model(space, net)
    for _ in range(2):
        sensitivity.evaluate(space.sample(np.random.default_rng(0), 5))
    sensitivity.terms()
    assert net.calls == [64]


def test_more_bits_never_cost_more_and_traces_are_never_negative() -> None:
    rising = np.array([[[5.0, 6.0], [1.0, 2.0], [3.0, -1.0]]])
    term = ErrorTerm("x", ("w", "a"), rising, ("w", "a"))
    np.testing.assert_array_equal(term.mean, [[6.0, 6.0], [3.0, 2.0], [3.0, 0.0]])
    assert term.clipped == 3
    free = ErrorTerm("x", ("w", "a"), rising)
    np.testing.assert_array_equal(free.mean, np.maximum(rising[0], 0))


def test_saved_errors_are_read_by_a_part_of_the_space(tmp_path: Path) -> None:
    space = bits_space()
    part = space.restrict({"blocks.*.w_bits": (2, 8)}).freeze({"resolution": 128})
    path = tmp_path / "errors.json"
    measured = model(space, Measuring())
    archs = part.sample(np.random.default_rng(3), 6)
    values = measured.evaluate(space.archs(list(archs)))
    measured.save(path)
    net = Measuring()
    again = model(part, net, tables=str(path))
    np.testing.assert_array_equal(again.evaluate(archs), values)
    assert net.calls == []
    with pytest.raises(CostError, match="made for other kind"):
        model(part, net, tables=str(path), kind="sqnr")
    path.write_text("{}")
    with pytest.raises(CostError, match="not a file of sensitivities"):
        model(part, net, tables=str(path))


def test_a_scale_turns_errors_into_a_measured_unit_and_is_saved(tmp_path: Path) -> None:
    space = bits_space().freeze({"resolution": 128})
    whole = model(space, Measuring())
    archs = space.sample(np.random.default_rng(4), 5)
    values, ends = whole.evaluate(archs), whole.estimate(archs)
    scaled = whole.rescaled(0.25, unit="IoU", against="iou")
    np.testing.assert_allclose(scaled.evaluate(archs), 0.25 * values)
    np.testing.assert_allclose(scaled.estimate(archs).hi, 0.25 * np.array(ends.hi))
    assert sum(scaled.breakdown(archs[0]).values()) == pytest.approx(0.25 * values[0])
    errors = [np.array(m.matrices(128)[0]["errors"]) for m in (whole, scaled)]
    np.testing.assert_allclose(errors[1], 0.25 * errors[0])
    assert (scaled.unit, whole.unit) == ("IoU", "loss increase (surrogate)")
    assert "scaled to iou" in scaled.note
    np.testing.assert_array_equal(whole.evaluate(archs), values)
    scaled.save(tmp_path / "errors.json")
    again = model(space, Measuring(), tables=str(tmp_path / "errors.json"))
    np.testing.assert_array_equal(again.evaluate(archs), scaled.evaluate(archs))
    assert again.unit == "IoU"
    twice = scaled.rescaled(0.5, unit="IoU", against="iou")
    np.testing.assert_allclose(twice.evaluate(archs), 0.5 * values)
    with pytest.raises(CostError, match="a scale of 0"):
        whole.rescaled(0.0, unit="IoU", against="iou")


def test_matrices_say_what_is_what() -> None:
    tables = model(bits_space(), Measuring()).matrices(64)
    assert [table["name"] for table in tables] == ["blocks.0", "blocks.1", "blocks.2", "depth"]
    assert tables[0]["options"] == [[2, 4, 8], [4, 8]]
    assert np.array(tables[0]["errors"]).shape == (3, 2)
    with pytest.raises(CostError, match="no resolution 96"):
        model(bits_space(), Measuring()).matrices(96)


def test_genes_that_no_term_knows_and_odd_options_are_refused() -> None:
    space = bits_space(ordinal("kernel", (3, 5)))
    with pytest.raises(CostError, match="says nothing about kernel"):
        model(space, Measuring()).evaluate([space.largest()])
    frozen = space.freeze({"kernel": 5})
    assert model(frozen, Measuring()).evaluate([frozen.largest()]).shape == (1,)
    with pytest.raises(CostError, match="kind is 'mse'"):
        model(space, Measuring(), kind="mse")
    with pytest.raises(CostError, match="images=0"):
        model(space, Measuring(), images=0)
    with pytest.raises(CostError, match=r"has shape|have shape"):
        ErrorTable(space, [ErrorTerm("x", ("kernel",), np.zeros((2, 3)))])


def test_exact_search_over_sensitivities_equals_exhaustive() -> None:
    space = bits_space().freeze({"resolution": 128})
    models = (Objective.of(model(space, Measuring())), Objective.of(Cost(space)))
    asked = Problem(space, models)
    found, truth = run_exact(asked, points=None).front, run_exhaustive(asked).front
    np.testing.assert_allclose(found.values, truth.values)
    assert len(found) > 5


def test_what_a_supernet_measured_itself_is_taken_up_and_files_are_named(tmp_path: Path) -> None:
    space, net = bits_space(), Measuring()

    class Kept(dict[str, Any]):
        add = dict.__setitem__

    archs, records = space.sample(np.random.default_rng(3), 8), Kept()
    first = model(space, net)
    first.remember_in(records)
    values = first.evaluate(archs)
    assert sorted(records) == ["errors/128", "errors/64"]
    assert sorted(net.calls) == [64, 128]
    again = model(space, net)
    again.remember_in({k: json.loads(json.dumps(v)) for k, v in records.items()})  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.evaluate(archs), values)
    assert len(net.calls) == 2
    first.save(tmp_path / "tables.json")
    assert first.input_files == ()
    read = model(space, net, tables=str(tmp_path / "tables.json"))
    assert read.input_files == (str(tmp_path / "tables.json"),)
