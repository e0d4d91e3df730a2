"""A deploy folder is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.errors import Interrupted, RunError
from hwnas.export.folder_draft import drafted


def test_it_appears_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with drafted(out) as draft:
        (draft / "file").write_text("x")
        assert not out.exists()
    assert [p.name for p in out.iterdir()] == ["file"]
    assert [p.name for p in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("raised", "expected"), [(ValueError, ValueError), (KeyboardInterrupt, Interrupted)]
)
def test_nothing_is_left_of_a_failure(
    raised: type[BaseException], expected: type[BaseException], tmp_path: Path
) -> None:
    with pytest.raises(expected), drafted(tmp_path / "out") as draft:  # noqa: PT012
        (draft / "file").write_text("x")
        raise raised
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("kept")
    with pytest.raises(RunError, match="exists already"), drafted(out):
        pass
    assert (out / "mine").read_text() == "kept"
