"""Measurements as CSV: there and back, and what is said about damaged files."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from hwnas.errors import DeviceError
from hwnas.measure.store import MeasurementStore
from hwnas.measure.store_csv import export_csv, import_csv, read_csv
from tests.measure.store.rows import FAILED, GOOD, row


def test_there_and_back_is_equal_and_known_rows_are_not_added_twice(tmp_path: Path) -> None:
    rows = [GOOD, FAILED, row(key="k2", message='quote " and \u2028 and,comma')]
    with MeasurementStore(tmp_path / "a.sqlite") as store:
        store.add(*rows)
        assert export_csv(store, tmp_path / "sub" / "a.csv") == 3
    assert read_csv(tmp_path / "sub" / "a.csv") == rows
    with MeasurementStore(tmp_path / "b.sqlite") as store:
        store.add(GOOD)
        assert import_csv(store, tmp_path / "sub" / "a.csv") == (2, 1)
        assert import_csv(store, tmp_path / "sub" / "a.csv") == (0, 3)
        assert len(store) == 3


def test_without_repeats_and_compressed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    assert export_csv([GOOD, FAILED], path, repeats=False) == 2
    assert path.read_bytes()[:2] == b"\x1f\x8b"
    good, failed = read_csv(path)
    assert GOOD.repeats_ms
    assert good == replace(GOOD, repeats_ms=())
    assert failed.status == "failed"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DeviceError, match="cannot be read as measurements"):
        read_csv(path)


def test_six_columns_by_hand_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "hand.csv"
    path.write_text("key,subject,fingerprint,runner,status,value_ms\nk,kernel,board,tvm,ok,1.5\n")
    (found,) = read_csv(path)
    assert (found.key, found.value_ms, found.repeats_ms) == ("k", 1.5, ())


def test_every_problem_is_named_and_nothing_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    export_csv([GOOD, GOOD, GOOD, GOOD, GOOD, GOOD, GOOD], path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0]["value_ms"] = "-3"
    rows[1]["subject"] = "kernal"
    rows[2]["value_ms"] = ""
    rows[3]["details"] = "{"
    rows[4]["repeats_ms"] = "1.0 fast"
    rows[5]["key"] = " "
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with MeasurementStore(tmp_path / "s.sqlite") as store:
        with pytest.raises(DeviceError) as caught:
            import_csv(store, path)
        assert len(store) == 0
    said = str(caught.value)
    assert "6 problems" in said
    for place, words in {
        2: "positive", 3: "kernel, subnet, reference", 4: "has no value", 5: "line 5", 6: "'fast'",
        7: "no key",
    }.items():  # fmt: skip
        assert f"line {place}: " in said
        assert words in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column subject"),
        ("arch,ms\n1,2\n", "unknown column 'arch', 'ms'"),
        ("subject,key,fingerprint,runner,status,value_ms\n", "no rows"),
        ("subject,key,fingerprint,runner,status,value_ms\nkernel,k\n", "fewer cells"),
        ("subject,key,fingerprint,runner,status,value_ms\nkernel,k,f,r,ok,1,7\n", "more"),
    ],
)
def test_files_of_another_form(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(DeviceError, match=said):
        read_csv(path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DeviceError, match="cannot be read"):
        read_csv(path)
