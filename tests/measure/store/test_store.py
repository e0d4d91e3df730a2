"""The store: what goes in comes out, whatever other processes do, and whenever they are killed."""

from __future__ import annotations

import pickle
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hwnas.errors import DeviceError
from hwnas.measure.store import MeasurementStore, default_store_path
from tests.measure.store.rows import FAILED, GOOD, row

WRITER = """
import sys
from dataclasses import replace
sys.path.insert(0, {root!r})
from tests.measure.store.rows import GOOD
from hwnas.measure.store import MeasurementStore
with MeasurementStore({path!r}) as store:
    for number in range({count}):
        store.add(replace(GOOD, key=f"{name}-{{number}}"), replace(GOOD, key=f"{name}-{{number}}"))
        print(number, flush=True)
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[3])
    code = WRITER.format(root=root, path=str(path), name=name, count=count)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_rows_come_back_in_order_and_equal(tmp_path: Path) -> None:
    with MeasurementStore(tmp_path / "new" / "s.sqlite") as store:
        store.add(GOOD, FAILED)
        store.add(row(subject="subnet", key="abc-1prompts"))
    with MeasurementStore(tmp_path / "new" / "s.sqlite") as store:
        assert list(store) == [GOOD, FAILED, row(subject="subnet", key="abc-1prompts")]
        assert len(store) == 3
        assert store.rows("kernel", status="failed") == [FAILED]
        assert store.rows(key="abc-1prompts", fingerprint="another device") == []
        assert store.counts()[(GOOD.fingerprint, "tvm 0.27", "kernel", "ok")] == 1


def test_latest_prefers_good_to_noisy_to_failed(tmp_path: Path) -> None:
    where = ("kernel", GOOD.key, GOOD.fingerprint)
    with MeasurementStore(tmp_path / "s.sqlite") as store:
        assert store.latest(*where) is None
        store.add(FAILED)
        assert store.latest(*where) == FAILED
        noisy = row(value_ms=3.0, status="noisy", message="1 clean")
        store.add(noisy, FAILED)
        assert store.latest(*where) == noisy
        found = row(value_ms=2.0)
        store.add(GOOD, found, noisy)
        assert store.latest(*where) == found
        store.add(row(runner="torch 2", value_ms=9.0))
        assert store.latest(*where, "tvm 0.27") == found
        assert store.latest(*where, "onnxruntime 1") is None


def test_a_copy_by_pickle_reads_the_same_file(tmp_path: Path) -> None:
    with MeasurementStore(tmp_path / "s.sqlite") as store:
        store.add(GOOD)
        with pickle.loads(pickle.dumps(store)) as copy:
            assert list(copy) == [GOOD]


def test_details_that_are_no_json_leave_the_store_as_it_was(tmp_path: Path) -> None:
    with MeasurementStore(tmp_path / "s.sqlite") as store:
        with pytest.raises(ValueError, match="JSON"):
            store.add(GOOD, row(details={"a": float("nan")}))
        assert len(store) == 0
        store.add(GOOD)


CLAIMER = """
import sys, time
sys.path.insert(0, {root!r})
from tests.measure.store.rows import GOOD
from hwnas.measure.store import MeasurementStore
with MeasurementStore({path!r}) as store:
    print(store.claim("kernel", GOOD.key, GOOD.fingerprint, GOOD.runner, seconds={seconds}))
    sys.stdout.flush()
    sys.stdin.read()
"""


@pytest.mark.parametrize("seconds", [600, -1])
def test_a_claim_ends_with_its_time_or_its_process(seconds: float, tmp_path: Path) -> None:
    path, root = tmp_path / "s.sqlite", str(Path(__file__).parents[3])
    where = ("kernel", GOOD.key, GOOD.fingerprint, GOOD.runner)
    code = CLAIMER.format(root=root, path=str(path), seconds=seconds)
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "True\n"
    with MeasurementStore(path) as store:
        assert store.claim(*where) == (seconds < 0)
        child.kill()
        child.communicate()
        assert store.claim(*where)
        assert store.claim(*where)  # one's own claim is no obstacle


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"no database at all, " * 20, "not a database"), (b"", None)],
)
def test_files_of_another_kind(content: bytes, said: str | None, tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    path.write_bytes(content)
    if said is None:
        with MeasurementStore(path) as store:
            assert len(store) == 0
        return
    with pytest.raises(DeviceError, match=said):
        MeasurementStore(path)
    assert path.read_bytes() == content


def test_databases_of_something_else_or_of_the_future_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE dogs (name TEXT)")
    connection.close()
    with pytest.raises(DeviceError, match="something else"):
        MeasurementStore(other)
    path = tmp_path / "s.sqlite"
    MeasurementStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DeviceError, match="format 99"):
        MeasurementStore(path)


def test_a_folder_that_is_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match="--store"):
        MeasurementStore(tmp_path / "file" / "s.sqlite")


def test_four_processes_open_one_new_file_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    writers = [writer(path, name, 40) for name in ("a", "b", "c", "d")]
    for child in writers:
        child.communicate(timeout=120)
        assert child.returncode == 0
    with MeasurementStore(path) as store:
        keys = [m.key for m in store]
    assert sorted(keys) == sorted(2 * [f"{n}-{i}" for n in "abcd" for i in range(40)])


def test_kill_9_loses_no_row_that_was_added_and_leaves_no_half(tmp_path: Path) -> None:
    rng = random.Random(0)
    path = tmp_path / "s.sqlite"
    other = writer(path, "other", 400)
    said: dict[str, int] = {}
    for attempt in range(4):
        child = writer(path, f"cut{attempt}", 100_000)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.1))
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate()
        # a last line may be cut off: it was added all the same
        said[f"cut{attempt}"] = 1 + rest.count("\n")
    other.communicate(timeout=120)
    assert other.returncode == 0
    with MeasurementStore(path) as store:
        keys = [m.key for m in store]
    assert all(keys.count(key) == 2 for key in set(keys))
    for name, count in said.items():
        assert {f"{name}-{i}" for i in range(count)} <= set(keys)
    assert {f"other-{i}" for i in range(400)} <= set(keys)


def test_the_usual_place_is_below_the_folder_one_works_in() -> None:
    assert default_store_path("host") == Path("measurements/host.sqlite")
