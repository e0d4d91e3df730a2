"""Exchanging adapters in the weights of a tiny model: what is counted, and what is left over."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from hwnas.cli.app import app
from hwnas.errors import CheckpointError, ConfigError
from hwnas.workflows.bench_switching import Row, bench_switching
from tests.adapters.tiny_sam import GEOMETRY

MIB = 1 << 20
WEIGHTS = 3 * 12 * 48 * 48  # of three blocks
PAIRS = 3 * 2 * 16 * 48  # of rank 2: rows plus columns of the four layers are 16 widths


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return bench_switching(GEOMETRY, densities=(0.01, 0.05), rank=2, rounds=3)


def test_every_way_is_there_at_each_width(rows: list[Row]) -> None:
    sparse = [("shira, 1 %", "sparse writes"), ("shira, 5 %", "sparse writes")]
    lora = "lora, rank 2"
    float_ways = [(lora, "add, subtract"), (lora, "add to a copy"), *sparse]
    code_ways = [(lora, "codes recomputed"), (lora, "all copied"), *sparse]
    for bits, expected in ((32, float_ways), (8, code_ways), (4, code_ways)):
        group = [row for row in rows if row["bits"] == bits]
        assert [(row["adapter"], row["way"]) for row in group] == expected
        assert group[0]["time, ratio"] == 1
        assert all(row["ms"] > 0 and row["time, ratio"] > 0 for row in group)  # type: ignore[operator]
    json.dumps(rows)


def test_only_subtracting_leaves_something_over(rows: list[Row]) -> None:
    left = {(row["bits"], row["way"], row["adapter"]): row["left over"] for row in rows}
    over = left.pop((32, "add, subtract", "lora, rank 2"))
    assert 0 < over < 1e-6  # type: ignore[operator]
    assert set(left.values()) == {0.0}


def test_bytes_are_those_of_entries_and_pairs(rows: list[Row]) -> None:
    found = {(row["bits"], row["adapter"], row["way"]): row for row in rows}
    entries = {  # floor(density * rows * columns) of q, k, v, proj, lin1 and lin2
        density: 3 * (4 * int(density * 48 * 48) + 2 * int(density * 48 * 192))
        for density in (0.01, 0.05)
    }
    for density, count in entries.items():
        plain = found[32, f"shira, {100 * density:.3g} %", "sparse writes"]
        sizes = {name: plain[f"{name} MiB"] * MIB for name in ("shipped", "written", "kept")}  # type: ignore[operator]
        assert sizes == {"shipped": 8 * count, "written": 4 * count, "kept": 8 * count}
        for bits in (8, 4):  # an int32 and an int8 for an entry whose code moves
            row = found[bits, f"shira, {100 * density:.3g} %", "sparse writes"]
            assert row["shipped MiB"] == 5 * row["written MiB"]  # type: ignore[operator]
            assert 0.3 * count < row["written MiB"] * MIB <= count  # type: ignore[operator]
    for (held, adapter, way), row in found.items():
        if adapter != "lora, rank 2":
            continue
        size = 4 if held == 32 else 1
        kept = {"add, subtract": 0, "add to a copy": 4, "codes recomputed": 4, "all copied": 1}
        assert row["written MiB"] == size * WEIGHTS / MIB
        assert row["kept MiB"] == kept[str(way)] * WEIGHTS / MIB
        shipped = WEIGHTS if way == "all copied" else 4 * PAIRS
        assert row["shipped MiB"] == shipped / MIB


@pytest.mark.parametrize("changes", [{"rounds": 0}, {"densities": ()}, {"densities": (0.1, 0.1)}])
def test_nothing_to_measure_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="at least one of each, and no density twice"):
        bench_switching(GEOMETRY, **changes)  # type: ignore[arg-type]


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="32 bits: quantizers exist for"):
        bench_switching(GEOMETRY, bits=(32,))
    with pytest.raises(CheckpointError, match="no such file"):
        bench_switching("sam-vit-q")


def test_words_that_are_no_numbers_are_refused() -> None:
    result = CliRunner().invoke(app, ["bench", "switching", "--densities", "1%"])
    assert isinstance(result.exception, ConfigError)
    assert "--densities 1%: expected numbers with commas" in str(result.exception)
