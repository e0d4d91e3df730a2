"""Spaces written in YAML, and the page of the manual that shows one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hwnas.errors import ConfigError
from hwnas.space import (
    SearchSpace,
    at_most,
    choice,
    implies,
    link,
    ordinal,
    repeat,
    space_from_yaml,
    yaml_schema,
)

GOOD = """
name: tiny
description: a tiny CNN
choices:
  - {kind: ordinal, name: resolution, options: [96, 128, 160], role: resolution}
  - {kind: ordinal, name: depth, options: [1, 2, 3], role: depth}
  - kind: repeat
    name: blocks
    indices: [0, 1, 2]
    depth: depth
    keep_order: [2, 0, 1]
    choices:
      - {kind: choice, name: kernel, options: [3, 5, 7]}
      - {kind: ordinal, name: width, options: [16, 32, 128], role: width}
links: [["blocks.*.kernel"]]
constraints:
  - {kind: implies, if: {resolution: 96}, then: {depth: [1, 2]}}
  - {kind: at_most, low: "blocks.*.width", high: resolution}
only: {resolution: [96, 160]}
freeze: {blocks.1.width: 16}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_yaml_and_python_declare_the_same_space(tmp_path: Path) -> None:
    inner = [choice("kernel", [3, 5, 7]), ordinal("width", [16, 32, 128], role="width")]
    same = SearchSpace(
        "tiny",
        [
            ordinal("resolution", [96, 128, 160], role="resolution"),
            ordinal("depth", [1, 2, 3], role="depth"),
            repeat("blocks", 3, inner, depth="depth", keep_order=[2, 0, 1]),
        ],
        links=[link("blocks.*.kernel")],
        constraints=[
            implies({"resolution": 96}, {"depth": [1, 2]}),
            at_most("blocks.*.width", "resolution"),
        ],
        description="a tiny CNN",
        only={"resolution": [96, 160], "blocks.1.width": [16]},
    )
    read = space_from_yaml(written(tmp_path, GOOD))
    assert read.to_dict() == same.to_dict()
    ids = [{i for chunk in s.enumerate() for i in chunk.ids} for s in (read, same)]
    assert ids[0] == ids[1]
    assert len(ids[0]) == read.size()


def test_all_wrong_entries_are_listed_with_the_nearest_keys(tmp_path: Path) -> None:
    text = """
name: tiny
chioces: 3
choices:
  - {kind: ordinal, name: a, options: [3, 2], role: width}
  - {kind: ordnal, name: b, options: [1]}
  - {kind: repeat, name: c, indices: 2, deepth: d, choices: []}
constraints:
  - {kind: implies, if: {a: 1}}
"""
    with pytest.raises(ConfigError) as caught:
        space_from_yaml(written(tmp_path, text))
    said = str(caught.value)
    for part in (
        "chioces",
        "did you mean choices",
        "from the smallest",
        "ordnal",
        "deepth",
        "then",
    ):
        assert part in said, part


def test_names_that_do_not_exist_are_listed_together(tmp_path: Path) -> None:
    text = """
name: tiny
choices: [{kind: ordinal, name: resolution, options: [96, 128]}]
links: [["blocks.*.kernel"]]
freeze: {resolution: 97}
constraints:
  - {kind: implies, if: {resolutoin: 96}, then: {depth: [1, 2]}}
  - {kind: at_most, low: width, high: resolution}
"""
    with pytest.raises(ConfigError) as caught:
        space_from_yaml(written(tmp_path, text))
    said = str(caught.value)
    assert "space.yaml: 4 problems" in said
    assert "nearest: resolution" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds nothing"),
        ("[1, 2]", "holds a list"),
        ("name: [", "not valid YAML"),
        ("name: x\nchoices: []", "choices"),
        (GOOD.replace("only:", "freeze_:"), "did you mean freeze"),
        (GOOD + "\nsupernet: [1]", "supernet"),
        (GOOD.replace("blocks.1.width: 16", "resolution: 96"), "under only and under freeze"),
        (GOOD.replace("options: [3, 5, 7]", "options: [3, null]"), "kernel|options"),
    ],
)
def test_a_bad_file_is_refused_with_a_reason(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        space_from_yaml(written(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        space_from_yaml(tmp_path / "nowhere.yaml")


def test_the_schema_describes_what_is_read() -> None:
    schema = yaml_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert schema["additionalProperties"] is False
    assert {"name", "choices", "links", "constraints", "only", "freeze"} <= set(
        schema["properties"]
    )
    assert "if" in schema["$defs"]["ImpliesModel"]["properties"]


def test_importing_spaces_imports_nothing_heavy() -> None:
    heavy = "('torch', 'pydantic', 'scipy', 'pandas', 'pymoo', 'yaml')"
    code = f"import sys, hwnas.space; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
