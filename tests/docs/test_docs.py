"""The documentation is run: Python blocks, the files they need, command lines, links.

Conventions of a page: a block whose first line is a comment with nothing but a path
(`# my_npu.py`, `# devices/my-npu.yaml`) is a file of the reader's, written before anything runs.
The other `python` blocks are run in their order, in one namespace. Command lines of `hwnas` in
`console`, `bash` and `sh` blocks are checked against the commands and options that exist.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"\A# (?P<path>[\w./-]+\.(?:py|ya?ml|toml|csv|json))\n")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)#\s]+)(?:#[^)]*)?\)")


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, and the line of the page where the text begins."""

    language: str
    text: str
    line: int

    @property
    def path(self) -> str | None:
        named = FILE_NAME.match(self.text)
        return named["path"] if named else None


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for fence in FENCE.finditer(text):
        line = text.count("\n", 0, fence.start("text")) + 1
        yield Block(fence["language"], fence["text"], line)


def script(page: Path) -> str:
    """The Python blocks on the lines that they have in the page, for the sake of tracebacks."""
    lines = [""] * (page.read_text().count("\n") + 1)
    for block in blocks(page):
        if block.language == "python" and block.path is None:
            found = block.text.splitlines()
            lines[block.line - 1 : block.line - 1 + len(found)] = found
    return "\n".join(lines) + "\n"


def names(pages: list[Path]) -> list[Any]:
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages]


@pytest.mark.parametrize("page", names([page for page in PAGES if script(page).strip()]))
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.path is not None:
            target = tmp_path / block.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text)
    run = tmp_path / f"{page.stem.replace('-', '_')}_page.py"
    run.write_text(script(page))
    done = subprocess.run(
        [sys.executable, run.name],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{page.name}, same line numbers:\n{done.stderr}"


def command_lines(page: Path) -> Iterator[tuple[int, str]]:
    """Every command line of `hwnas` with its line; a trailing backslash joins lines."""
    for block in blocks(page):
        if block.language not in {"console", "bash", "sh"}:
            continue
        joined = block.text.replace("\\\n", "  ")
        for offset, line in enumerate(joined.splitlines()):
            command = line.strip().removeprefix("$ ")
            if command.startswith("hwnas "):
                yield block.line + offset, command.partition(" #")[0]


def complaints(command: str) -> Iterator[str]:
    """Yield what does not exist of a command line: commands and option names."""
    from typer.main import get_command

    from hwnas.cli.app import app

    node: Any = get_command(app)
    for word in shlex.split(command)[1:]:
        if word in {"|", ">", "&&"}:
            return
        children = getattr(node, "commands", None)
        if word.startswith("-") and word != "-":
            options = {name for p in node.params for name in (*p.opts, *p.secondary_opts)}
            if word.partition("=")[0] not in options | {"--help", "-h"}:
                yield f"no option {word} in {command!r}"
        elif children:
            if word not in children:
                yield f"no command {word} in {command!r}; there are {', '.join(sorted(children))}"
                return
            node = children[word]


@pytest.mark.parametrize("page", names([page for page in PAGES if any(command_lines(page))]))
def test_command_lines_exist(page: Path) -> None:
    found = [
        f"line {line}: {complaint}"
        for line, command in command_lines(page)
        for complaint in complaints(command)
    ]
    assert not found


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("hwnas search --device jetson-orin", None),
        ("hwnas devices show jetson-orin --json", None),
        ("hwnas search --devise jetson-orin", "no option --devise"),
        ("hwnas devises list", "no command devises"),
        ("hwnas devices lst", "no command lst"),
    ],
)
def test_command_checker_knows_right_from_wrong(command: str, complaint: str | None) -> None:
    found = list(complaints(command))
    assert found == [] if complaint is None else complaint in found[0]


@pytest.mark.parametrize(
    "page", names([ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))])
)
def test_links_lead_somewhere(page: Path) -> None:
    dead = [
        link["target"]
        for link in LINK.finditer(page.read_text())
        if "://" not in link["target"] and not (page.parent / link["target"]).exists()
    ]
    assert not dead


@pytest.mark.parametrize("topic", ["quickstart", "cost", "space", "device"])
def test_each_topic_has_a_page(topic: str) -> None:
    assert [page for page in PAGES if topic in page.name]
