"""`docs/devices.md` runs: its files are written, its Python is executed, in order."""

import re
from pathlib import Path

import hwnas

ROOT = Path(hwnas.__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8")


def test_guide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices").mkdir()
    names: dict[str, object] = {}
    ran = 0
    for language, body in re.findall(r"```(yaml|python)\n(.*?)```", GUIDE, re.DOTALL):
        if language == "yaml":
            first, _, _ = body.partition("\n")
            (tmp_path / first.removeprefix("# ")).write_text(body, encoding="utf-8")
        else:
            exec(compile(body, "docs/devices.md", "exec"), names)
            ran += 1
    assert ran >= 3


def test_readme_explains_every_field():
    from hwnas.device import schema

    text = (ROOT / "devices" / "README.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert explained >= set(schema()["properties"])
