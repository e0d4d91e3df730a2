"""Which file a name means."""

import logging
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from hwnas.device import find, listing, places
from hwnas.errors import ConfigError, DeviceError

TEXT = """\
id: {id}
name: {name}
aliases: [{aliases}]
kind: cpu
runtime: {{name: tvm}}
default_mode: slow
modes: {{slow: {{}}, fast: {{bandwidth_gbps: 20}}}}
peak_tops_dense: {{fp32: 0.1}}
bandwidth_gbps: 10
ram_bytes: 1073741824
pairs: [{{w: 32, a: 32, runs_as: fp32}}]
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory, with no package that announces devices."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    announce(monkeypatch)
    return folder


def announce(monkeypatch, *points):
    monkeypatch.setattr(places, "entry_points", lambda group: list(points))


def put(folder, id_, *, aliases="", name="Board"):
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f"{id_}.yaml"
    path.write_text(TEXT.format(id=id_, name=name, aliases=aliases), encoding="utf-8")
    return path


def test_a_path_needs_no_folder(here):
    path = put(here / "somewhere", "board")
    assert find("somewhere/board.yaml").origin == "somewhere/board.yaml"
    assert find(path).key == "board:slow"
    assert find("somewhere/board.yaml:fast").key == "board:fast"
    assert find(path, mode="fast").bandwidth_bytes_per_s == 20e9


def test_devices_here_go_before_packages_and_they_before_the_built_in(here, monkeypatch, tmp_path):
    package = tmp_path / "site" / "acme_boards_a"
    (package).mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(package.parent)
    announce(monkeypatch, EntryPoint("acme", "acme_boards_a", places.ENTRY_POINT_GROUP))

    assert "devices/t4.yaml" in find("t4").origin.replace("\\", "/")
    put(package, "t4", name="of the package")
    assert find("t4").name == "of the package"
    assert "acme_boards_a" not in sys.modules  # a package that is a folder is not imported
    put(here / "devices", "mine", aliases="t4", name="of this folder")
    assert find("t4").name == "of this folder"
    assert find("t4").id == "mine"


def test_the_log_says_which_file_won_and_what_it_hides(here, caplog):
    path = put(here / "devices", "t4")
    with caplog.at_level(logging.INFO, logger="hwnas.device"):
        find("t4:fast")
    assert f"device t4:fast is from {path} (./devices), which hides" in caplog.text
    assert "t4.yaml" in caplog.text.split("which hides")[1]


def test_a_package_may_give_a_path_or_a_function(here, monkeypatch, tmp_path):
    boards = tmp_path / "boards"
    put(boards, "acme-1")
    module = tmp_path / "acme_boards_b.py"
    module.write_text(
        f"from pathlib import Path\nFOLDER = {str(boards)!r}\n"
        "def folder():\n    return Path(FOLDER)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for target in ("acme_boards_b:FOLDER", "acme_boards_b:folder"):
        announce(monkeypatch, EntryPoint("acme", target, places.ENTRY_POINT_GROUP))
        assert find("acme-1").origin == str(boards / "acme-1.yaml")
        assert "package" in next(e.origin for e in listing() if e.id == "acme-1")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("not_installed_anywhere", "not an installed package"),
        ("math:pi", "expected a path, got float"),
    ],
)
def test_a_broken_package_hurts_only_itself(here, monkeypatch, target, reason):
    announce(monkeypatch, EntryPoint("acme", target, places.ENTRY_POINT_GROUP))
    assert find("t4").id == "t4"
    broken = [entry for entry in listing() if entry.problem]
    assert len(broken) == 1
    assert reason in broken[0].problem


def test_a_broken_file_hurts_only_itself(here):
    put(here / "devices", "good")
    (here / "devices" / "bad.yaml").write_text("id: [")
    assert find("good").id == "good"
    assert "not valid YAML" in next(e.problem for e in listing() if e.id == "bad")
    with pytest.raises(ConfigError, match=r"bad.yaml is not valid YAML"):
        find("bad")


def test_an_unknown_name_says_what_is_near_and_where_it_looked(here):
    with pytest.raises(DeviceError) as error:
        find("jetson-orim")
    message = str(error.value)
    assert error.value.exit_code == 4
    assert "nearest: jetson-orin" in message
    assert "./devices" in message
    assert "does not exist" in message
    assert "built-in" in message


def test_a_name_near_nothing_gets_the_whole_list(here):
    with pytest.raises(DeviceError, match=r"known: .*jetson-orin.*raspberry-pi-5"):
        find("qqqqqqqq")


def test_two_files_that_claim_a_name_are_refused(here):
    put(here / "devices", "one", aliases="board")
    put(here / "devices", "two", aliases="board")
    assert find("one").id == "one"
    with pytest.raises(DeviceError, match=r"'board' is claimed by .*one.yaml and .*two.yaml"):
        find("board")


@pytest.mark.parametrize(
    ("name", "mode", "expected"),
    [
        ("board:fats", None, "did you mean board:fast"),
        ("board", "medium", "Its modes: slow, fast"),
        ("board:fast", "slow", "contradict each other"),
        ("board:", None, "ends in a colon"),
        ("t4:15w", None, "t4 has no mode '15w' Its modes: default"),
    ],
)
def test_modes_that_are_not(here, name, mode, expected):
    put(here / "devices", "board")
    with pytest.raises(DeviceError, match=expected.replace("?", r"\?")):
        find(name, mode=mode)


def test_the_same_mode_twice_is_no_contradiction(here):
    put(here / "devices", "board")
    assert find("board:fast", mode="fast").mode == "fast"


def test_listing_hides_what_is_hidden_and_ends_with_the_host(here):
    put(here / "devices", "t4", name="mine")
    rows = listing()
    assert [row.id for row in rows] == [*sorted(row.id for row in rows[:-1]), "host"]
    assert [row.name for row in rows if row.id == "t4"] == ["mine"]
    orin = next(row for row in rows if row.id == "jetson-agx-orin-64gb")
    assert orin.aliases[0] == "jetson-orin"
    assert orin.modes == ("maxn", "50w", "30w", "15w")
    assert orin.default_mode == "maxn"


def test_working_inside_the_repository_lists_each_device_once(monkeypatch):
    import hwnas

    announce(monkeypatch)
    root = places.Path(hwnas.__file__).resolve().parent.parent
    monkeypatch.chdir(root)
    assert [place.label for place in places.places()] == ["built-in"]


def test_listing_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from hwnas.device import listing; n = len(listing()); "
        "heavy = {'pydantic', 'numpy', 'torch', 'tvm', 'pymoo'} & set(sys.modules); "
        "assert n > 16 and not heavy, (n, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
