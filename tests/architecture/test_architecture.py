"""The shape of the code base: sizes, names, entry points and forbidden constructs."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("hwnas", "cost_models", "search_spaces")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
VAGUE_NAMES = {"utils", "util", "common", "core", "base", "manager", "handler", "interface"}
# Formats that run code when they are read, and clients that download.
FORBIDDEN_MODULES = {
    "dill", "cloudpickle", "joblib", "marshal", "shelve",
    "requests", "httpx", "aiohttp", "urllib.request", "http.client", "ftplib",
}  # fmt: skip

ONLY_IN_CLI = {"print", "sys.exit", "exit", "quit", "logging.basicConfig"}

SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
WITH_TESTS = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def where(path: Path, line: int | None = None) -> str:
    return f"{path.relative_to(ROOT)}" + (f":{line}" if line else "")


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call with the dotted name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every imported module with its line, lazy imports included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def test_files_are_short() -> None:
    lines = {where(path): path.read_text().count("\n") for path in WITH_TESTS}
    assert not {name: n for name, n in lines.items() if n > MAX_FILE_LINES}


def test_functions_are_short() -> None:
    lengths = {
        f"{where(path, node.lineno)} {node.name}": (node.end_lineno or 0) - begins(node, path) + 1
        for path in WITH_TESTS
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES}


def begins(node: ast.FunctionDef | ast.AsyncFunctionDef, path: Path) -> int:
    """First line of a function; a command's signature declares its options and is not counted."""
    return node.body[0].lineno if path.is_relative_to(ROOT / "hwnas" / "cli") else node.lineno


def test_nothing_forbidden_is_called() -> None:
    found = [
        f"{where(path, call.lineno)} {name}"
        for path in SOURCES
        for name, call in calls(parsed(path))
        if forbidden(name, call, in_cli=path.is_relative_to(ROOT / "hwnas" / "cli"))
    ]
    assert not found


def forbidden(name: str, call: ast.Call, *, in_cli: bool) -> bool:
    options = {word.arg: ast.unparse(word.value) for word in call.keywords}
    return (
        name in {"eval", "exec", "yaml.unsafe_load", "yaml.full_load"}
        or (name in ONLY_IN_CLI and not in_cli)
        or (name == "yaml.load" and "SafeLoader" not in ast.unparse(call))
        or (name == "torch.load" and options.get("weights_only") != "True")
        or (name.endswith(".load") and options.get("allow_pickle", "False") != "False")
        or name in {"np.random.seed", "numpy.random.seed", "random.seed"}
    )


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("print(1)", True),
        ("torch.load(path)", True),
        ("torch.load(path, weights_only=True)", False),
        ("np.load(path, allow_pickle=True)", True),
        ("np.load(path, allow_pickle=False)", False),
        ("yaml.load(text, Loader=yaml.SafeLoader)", False),
        ("yaml.load(text, Loader=yaml.Loader)", True),
        ("yaml.safe_load(text)", False),
        ("model.eval()", False),
        ("eval(text)", True),
    ],
)
def test_rule_about_calls_knows_right_from_wrong(code: str, wrong: bool) -> None:
    ((name, call),) = calls(ast.parse(code))
    assert forbidden(name, call, in_cli=False) is wrong


def test_nothing_forbidden_is_imported() -> None:
    found = [
        f"{where(path, line)} {module}"
        for path in SOURCES
        for module, line in imports(parsed(path))
        if module in FORBIDDEN_MODULES or module.endswith(".*")
    ]
    assert not found


def test_pickle_gives_no_more_than_the_name_of_its_error() -> None:
    # torch.load(weights_only=True) raises pickle.UnpicklingError, which must be caught.
    for path in SOURCES:
        used = {name for name, _ in imports(parsed(path)) if name.startswith("pickle.")} | {
            ast.unparse(node)
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle"
        }
        assert used <= {"pickle.UnpicklingError"}, where(path)


def test_every_todo_has_an_issue() -> None:
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b(?!.*#\d+)")
    found = [
        f"{where(path, number)} {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if words.search(line)
    ]
    assert not found


def test_no_module_has_a_vague_name() -> None:
    assert not [path for path in SOURCES if {path.stem, path.parent.name} & VAGUE_NAMES]


def test_no_package_runs_as_a_module() -> None:
    assert not [path for path in SOURCES if path.name == "__main__.py"]


def test_packages_with_imports_declare_what_is_public() -> None:
    silent = [
        where(path)
        for path in SOURCES
        if path.name == "__init__.py" and "__all__" not in path.read_text()
        for node in parsed(path).body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
    ]
    assert not silent, "what they import is public or private? say so in __all__"


# Entry points


def announced(group: str) -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    points: dict[str, str] = project["entry-points"][f"hwnas.{group}"]
    return points


@pytest.mark.parametrize("group", ["adapters", "cost_models", "search_spaces"])
def test_installed_entry_points_are_those_of_pyproject(group: str) -> None:
    installed = {
        point.name: point.value
        for point in distribution("hwnas").entry_points
        if point.group == f"hwnas.{group}"
    }
    assert installed == announced(group), "metadata is written at installation: pip install -e ."


@pytest.mark.parametrize("group", ["cost_models", "search_spaces"])
def test_every_file_of_a_plugin_folder_is_announced_or_helps_one(group: str) -> None:
    files = {p.stem: p for p in (ROOT / group).glob("*.py") if not p.stem.startswith("_")}
    modules = {target.partition(":")[0] for target in announced(group).values()}
    helpers = {
        name
        for path in files.values()
        for name, _ in imports(parsed(path))
        if name != f"{group}.{path.stem}"
    }
    assert modules <= {f"{group}.{stem}" for stem in files}
    forgotten = {f"{group}.{stem}" for stem in files} - modules - helpers
    assert not forgotten, "announce it in pyproject.toml and reinstall: pip install -e ."


@pytest.mark.parametrize("group", ["adapters", "cost_models", "search_spaces"])
def test_every_announced_name_is_defined(group: str) -> None:
    for name, target in announced(group).items():
        module, _, attribute = target.partition(":")
        tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text())
        assert attribute in set(top_level_names(tree)), f"{name} = {target}"


def top_level_names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (ast.unparse(target) for target in node.targets)
        elif isinstance(node, ast.AnnAssign):
            yield ast.unparse(node.target)


def test_wheel_ships_the_four_folders() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert wheel["targets"]["wheel"]["packages"] == [*PACKAGES, "devices"]
    code = [path for path in (ROOT / "devices").rglob("*.py") if parsed(path).body[1:]]
    assert not code, "devices are data only"


def test_every_dependency_says_which_folder_needs_it() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    block = text[text.index("dependencies = [") : text.index("[project.optional-dependencies]")]
    for line in block.splitlines()[1:]:
        if line.strip().startswith('"'):
            comment = line.partition("#")[2]
            assert re.search(r"hwnas/|imported by", comment), f"{line.strip()}: who needs it?"
            for folder in re.findall(r"(?:hwnas|cost_models)/[\w/.]+", comment):
                assert (ROOT / folder.rstrip(".")).exists(), f"{line.strip()}: no {folder}"
