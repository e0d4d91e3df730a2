"""A run folder loses nothing that it was given, and says what is wrong."""

import errno
import json
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from hwnas.errors import RunError
from hwnas.records import Evaluation, RunFolder, config_hash, hash_file, hash_inputs


def evaluation(index: int = 0, **changes: object) -> Evaluation:
    fields = {
        "arch_id": f"arch{index}",
        "genes": {"depth": 3, "act": "relu", "ratio": 0.5, "skip": True},
        "values": {"latency": 0.1 + 0.2, "bitops": 1e-300},
        "intervals": {"latency": (0.1, 1 / 3)},
        "fidelity": {"latency": "estimated", "bitops": "analytic"},
        "breakdown": {"bitops": {"stem": 1.5}},
        "seconds": 0.25,
        "index": index,
    }
    return Evaluation(**{**fields, **changes})  # type: ignore[arg-type]


def create(path: Path, **changes: object) -> RunFolder:
    facts = {
        "config": {"space": "toy", "seed": 3},
        "command": "hwnas search --space toy",
        "seeds": {"search": 3},
        "inputs": {"plugin.py": "aa"},
    }
    return RunFolder.create(path, **{**facts, **changes})  # type: ignore[arg-type]


def lines(folder: RunFolder) -> bytes:
    return (folder.path / "evaluations.jsonl").read_bytes()


def test_json_keeps_every_bit_of_every_float() -> None:
    before = evaluation(
        values={"a": 0.1 + 0.2, "b": 5e-324, "c": -0.0, "d": 1.7976931348623157e308}
    )
    after = Evaluation.from_json(before.to_json())
    assert after == before
    bits = [struct.pack("d", v) for v in before.values.values()]
    assert [struct.pack("d", v) for v in after.values.values()] == bits


def test_an_evaluation_holds_no_stand_ins() -> None:
    with pytest.raises(ValueError, match="latency=nan"):
        evaluation(values={"latency": float("nan")})
    with pytest.raises(ValueError, match="needs its message"):
        evaluation(status="failed")
    failed = evaluation(status="failed", message="iou: CostError: too small", values={})
    assert Evaluation.from_json(failed.to_json()) == failed


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    with create(tmp_path / "deep" / "run") as folder:
        folder.append(evaluation(0), evaluation(1))
        folder.append(evaluation(2))
        folder.write_state({"status": "running"})
    with RunFolder.open(tmp_path / "deep" / "run") as again:
        assert list(again.evaluations()) == [evaluation(i) for i in range(3)]
        assert again.state() == {"status": "running"}
        assert again.config == {"space": "toy", "seed": 3}
        assert again.command == "hwnas search --space toy"
        assert again.facts["seeds"] == {"search": 3}
        assert again.facts["environment"]["packages"]["numpy"]
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["run"]


def test_an_existing_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(RunError, match=r"exists already.*--out.*hwnas resume"):
        create(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_folder_that_cannot_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file, not a folder"):
        create(tmp_path / "file" / "run")

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(RunError, match=r"read-only; choose another folder with --out"):
        create(tmp_path / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_while_creating_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="disk is full; free some space"):
        create(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_in_the_middle_of_a_line_takes_the_line_back(tmp_path: Path) -> None:
    with create(tmp_path / "run") as folder:
        folder.append(evaluation(0))
        whole = lines(folder)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, limits[1]))
        try:
            with pytest.raises(RunError, match=r"cannot append to .*evaluations.jsonl"):
                folder.append(evaluation(1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert lines(folder) == whole
        assert list(folder.evaluations()) == [evaluation(0)]
        folder.append(evaluation(1))
        assert lines(folder).count(b"\n") == 2


def test_replacing_a_file_is_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create(tmp_path / "run") as folder:
        folder.write_text("front.csv", "old")

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match="disk is full"):
            folder.write_text("front.csv", "new")
        assert folder.read_text("front.csv") == "old"
        assert not list(folder.path.glob(".*tmp"))


@pytest.mark.parametrize("cut", [1, 7, 60])
def test_a_torn_last_line_is_dropped_and_cut_off(tmp_path: Path, cut: int) -> None:
    with create(tmp_path / "run") as folder:
        folder.append(evaluation(0), evaluation(1))
        whole = lines(folder)
    (tmp_path / "run" / "evaluations.jsonl").write_bytes(whole[:-cut])
    with RunFolder.open(tmp_path / "run") as again:
        assert list(again.evaluations()) == [evaluation(0)]
        again.append(evaluation(1))
        assert lines(again) == whole


def test_a_damaged_middle_line_is_named(tmp_path: Path) -> None:
    with create(tmp_path / "run") as folder:
        folder.append(*(evaluation(i) for i in range(3)))
        text = lines(folder).split(b"\n")
    text[1] = text[1][:30]
    (tmp_path / "run" / "evaluations.jsonl").write_bytes(b"\n".join(text))
    with pytest.raises(RunError, match=r"evaluations.jsonl, line 2 is damaged"):
        RunFolder.open(tmp_path / "run")
    text[1], text[2] = evaluation(1).to_json().encode(), b"\0" * 40
    (tmp_path / "run" / "evaluations.jsonl").write_bytes(b"\n".join(text))
    with RunFolder.open(tmp_path / "run") as again:  # zeros after a power cut, with a newline
        assert len(again.evaluations()) == 2


def test_only_one_process_at_a_time(tmp_path: Path) -> None:
    with create(tmp_path / "run"):
        with pytest.raises(RunError, match=rf"in use by process {os.getpid()}"):
            RunFolder.open(tmp_path / "run")
    with RunFolder.open(tmp_path / "run") as again:
        assert again.evaluations() == ()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    with create(tmp_path / "run"):
        pass
    code = (
        "import os, signal, pathlib; from hwnas.records import RunFolder;"
        f"folder = RunFolder.open(pathlib.Path({str(tmp_path / 'run')!r}));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    assert killed.returncode == -9
    owner = int((tmp_path / "run" / "lock").read_text())
    assert owner != os.getpid()
    with RunFolder.open(tmp_path / "run"):
        assert int((tmp_path / "run" / "lock").read_text()) == os.getpid()


def test_what_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"not a run folder \(no config.yaml"):
        RunFolder.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_changed_config_or_input_is_named(tmp_path: Path) -> None:
    with create(tmp_path / "run", inputs={"a.py": "1", "b.py": "2", "gone.py": "3"}) as folder:
        folder.check_unchanged({"a.py": "1", "b.py": "2", "gone.py": "3"})
        config = folder.read_text("config.yaml")
        folder.write_text("config.yaml", config.replace("seed: 3", "seed: 4"))
        with pytest.raises(RunError) as caught:
            folder.check_unchanged({"a.py": "1", "b.py": "9", "new.py": "0"})
    problems = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in problems] == [
        "config.yaml", "b.py", "gone.py", "new.py",
    ]  # fmt: skip


def test_the_config_hash_ignores_spelling(tmp_path: Path) -> None:
    assert config_hash({"a": 1, "b": [1.5, "ü"]}) == config_hash({"b": [1.5, "ü"], "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 2})
    with create(tmp_path / "run", config={"b": {"x": None}, "a": [1, 2]}) as folder:
        folder.check_unchanged({"plugin.py": "aa"})
        assert json.loads(folder.read_text("environment.json"))["config_sha256"] == config_hash(
            {"a": [1, 2], "b": {"x": None}}
        )


def test_inputs_are_hashed_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "b").write_bytes(b"b")
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_file(tmp_path / "a") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, "abc"
    )
    assert list(hash_inputs([tmp_path / "data", tmp_path / "a"])) == [
        str(tmp_path / "data" / "b"),
        str(tmp_path / "a"),
    ]
    with pytest.raises(RunError, match="cannot read"):
        hash_file(tmp_path / "missing")
