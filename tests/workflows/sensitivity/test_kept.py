"""A run folder has the matrices of its costs, so that a report computes none."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.config import make_config
from hwnas.errors import RunError
from hwnas.records import RunFolder
from hwnas.workflows.search import resume_search, run_search
from hwnas.workflows.sensitivity.kept import read_matrices


def test_a_search_leaves_the_matrices_of_its_sums(plugin: str, tmp_path: Path) -> None:
    config = make_config(
        "test",
        {"space": "toy", "objectives": [f"{plugin}:Errors", "bitops"], "population": 20,
         "max_evaluations": 40, "start": "exact", "freeze": {"resolution": 128}},
    )  # fmt: skip
    outcome = run_search(config, out=tmp_path / "run")
    assert outcome.exact is not None
    assert outcome.exact.objective == "errors"
    written = (tmp_path / "run" / "matrices.json").read_text()
    resume_search(tmp_path / "run")
    assert (tmp_path / "run" / "matrices.json").read_text() == written
    with RunFolder.open(tmp_path / "run") as folder:
        (found,) = read_matrices(folder)
        assert (found.name, found.unit, found.note) == ("errors", "NSR", "made up")
        (table,) = found.tables
        assert list(table.rows) == [f"blocks.{i}" for i in range(3)]
        assert table.title == "width, bits"
        folder.write_text("matrices.json", written[:50])
        with pytest.raises(RunError, match="damaged"):
            read_matrices(folder)


def test_costs_that_are_no_such_sums_leave_none(tmp_path: Path) -> None:
    config = make_config("test", {"space": "toy", "population": 20, "max_evaluations": 20})
    run_search(config, out=tmp_path / "run")
    assert not (tmp_path / "run" / "matrices.json").exists()
    with RunFolder.open(tmp_path / "run") as folder:
        assert read_matrices(folder) == ()
