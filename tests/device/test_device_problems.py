"""What a wrong device file is told: everything, at once, with the nearest right spelling."""

import pytest

from hwnas.device import check, find, from_dict, schema
from hwnas.errors import ConfigError, DeviceError

GOOD = """\
id: board
name: Board
kind: cpu
runtime: {name: tvm}
peak_tops_dense: {fp32: 0.1, int8: 0.4}
bandwidth_gbps: 10
ram_bytes: 1073741824
pairs:
  - {w: 32, a: 32, runs_as: fp32}
  - {w: 8, a: 8, runs_as: int8}
"""


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="board.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def test_the_shortest_file_is_good(write):
    profile = find(write(GOOD))
    assert profile.key == "board:default"
    assert profile.power_w is None
    assert profile.energy_basis is None
    assert profile.channel_multiple == 1
    assert profile.tvm_target is None
    assert profile.spec.bandwidth_gbps.status == "recalled"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("bandwidth_gbps: 10", "bandwith_gbps: 10", "unknown key; did you mean bandwidth_gbps?"),
        ("bandwidth_gbps: 10", "bandwidth_gbps: true", "is not a figure; write {value: 1.5"),
        ("bandwidth_gbps: 10", "bandwidth_gbps: .inf", "finite number"),
        ("bandwidth_gbps: 10", "bandwidth_gbps: .nan", "finite number"),
        ("bandwidth_gbps: 10", "bandwidth_gbps: -1", "greater than 0"),
        ("bandwidth_gbps: 10", "bandwidth_gbps: 9e+9", "not plausible"),
        ("bandwidth_gbps: 10", "bandwidth_gbps: {value: 10}", "bandwidth_gbps.source"),
        ("bandwidth_gbps: 10",
         "bandwidth_gbps: {value: 10, status: verifed, source: x}", "did you mean verified?"),
        ("bandwidth_gbps: 10",
         "bandwidth_gbps: {value: 10, status: fitted, sources: x}", "did you mean source?"),
        ("bandwidth_gbps: 10\n", "", "missing"),
        ("fp32: 0.1", "fp23: 0.1", "did you mean fp32?"),
        ("runs_as: int8", "runs_as: int4", "int4 has no figure in peak_tops_dense"),
        ("w: 8, a: 8, runs_as: int8", "w: 16, a: 8, runs_as: int8", "w16a8 does not fit into int8"),
        ("w: 8, a: 8, runs_as: int8", "w: 32, a: 32, runs_as: fp32", "w32a32 is listed twice"),
        ("w: 8,", "w: eight,", "valid integer"),
        ("w: 8,", "w: 64,", "less than or equal to 32"),
        ("a: 8, runs", "a: 8, weight_bits_in_memory: 4, runs", "4 bits cannot hold a weight of 8"),
        ("kind: cpu", "kind: cpu\nfallback: fp16", "fp16 has no figure"),
        ("kind: cpu", "kind: gpus", "did you mean gpu?"),
        ("kind: cpu", "kind: cpu\ndefault_mode: fast", "none of the modes (there are none)"),
        ("kind: cpu", "kind: cpu\nmodes: {fast: {}, slow: {}}", "one of the modes: fast, slow"),
        ("kind: cpu",
         "kind: cpu\nmodes: {fast: {}}\ndefault_mode: fats", "did you mean fast?"),
        ("kind: cpu",
         "kind: cpu\ndefault_mode: a\nmodes: {a: {bandwidth: 3}}", "did you mean bandwidth_gbps?"),
        ("kind: cpu",
         "kind: cpu\ndefault_mode: a\nmodes: {a: {launch_us: 1e+9}}", "modes.a.launch_us"),
        ("kind: cpu", "kind: cpu\nkind: gpu", "the key is given twice"),
        ("kind: cpu", "kind: cpu\nefficiency: {gem: 0.5}", "did you mean gemm?"),
        ("kind: cpu", "kind: cpu\nefficiency: {gemm.int9: 0.5}", "unknown kind of layer"),
        ("kind: cpu", "kind: cpu\nefficiency: {gemm: 50}", "50 of the peak is not plausible"),
        ("kind: cpu", "kind: cpu\npower_w: {min: 9, max: 3}", "min 9 W is above max 3 W"),
        ("kind: cpu", "kind: cpu\nchannel_multiple: 2.5", "not a whole number"),
        ("id: board", "id: my board", "should match pattern"),
        ("ram_bytes: 1073741824", "ram_bytes: 1", "1 bytes is not plausible"),
    ],
)  # fmt: skip
def test_one_mistake(write, old, new, expected):
    assert old in GOOD
    path = write(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        find(path)
    assert expected in str(error.value)
    assert str(path) in str(error.value)
    assert [f for f in check(path) if f.level == "error" and expected in f.message]


def test_all_mistakes_at_once_with_their_lines(write):
    text = GOOD.replace("bandwidth_gbps: 10", "bandwith_gbps: 10")
    text = text.replace("kind: cpu", "kind: gpus").replace("runs_as: int8", "runs_as: int4")
    text = text.replace("ram_bytes: 1073741824", "ram_bytes: 64\nfallback: bf16")
    with pytest.raises(ConfigError) as error:
        find(write(text))
    lines = str(error.value).splitlines()
    assert lines[0].endswith("board.yaml: 7 problems")
    assert [line.split()[:3] for line in lines[1:7]] == [
        ["line", "3", "kind"],
        ["line", "6", "bandwith_gbps"],
        ["line", "7", "ram_bytes"],
        ["line", "8", "fallback"],
        ["line", "11", "pairs.1.runs_as"],
        ["line", "11", "pairs.1.runs_as"],
    ]
    assert "bandwidth_gbps   missing" in lines[7]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "holds nothing"),
        ("- a\n- b\n", "holds a list"),
        ("just words", "holds a str"),
        ("id: [1, 2\n", "not valid YAML"),
        ("id: !!python/object:os.system x\n", "not valid YAML"),
        ("id: \x00\n", "not valid YAML"),
    ],
)
def test_not_a_mapping(write, text, expected):
    path = write(text)
    with pytest.raises(ConfigError, match=expected):
        find(path)
    assert expected in check(path)[0].message


def test_not_text(tmp_path):
    path = tmp_path / "board.yaml"
    path.write_bytes(b"id: \xff\xfe\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        find(path)


def test_a_mapping_inside_itself_ends(write):
    with pytest.raises(ConfigError, match="unknown key"):
        find(write(GOOD + "loop: &loop {again: *loop}\n"))


@pytest.mark.parametrize("name", ["absent.yaml", "folder/absent"])
def test_a_missing_file_is_a_device_error(tmp_path, name):
    with pytest.raises(DeviceError, match="No such file"):
        find(tmp_path / name)


def test_from_dict_lists_problems_too():
    with pytest.raises(ConfigError, match=r"a worker: \d+ problems"):
        from_dict({"id": "x", "kin": "cpu"}, origin="a worker")


def test_remarks_of_a_weak_file(write):
    text = GOOD.replace("int8: 0.4", "int8: 0.4, fp16: 0.6").replace("id: board", "id: plank")
    messages = [finding.message for finding in check(write(text))]
    assert {finding.level for finding in check(write(text))} == {"warning"}
    assert any("its id is 'plank'" in m for m in messages)
    assert any("int8 peaks at 0.4 TOPS, below fp16 at 0.6" in m for m in messages)
    assert any("not calibrated" in m for m in messages)
    assert any("energy cannot be estimated" in m for m in messages)
    assert any("cannot be measured" in m for m in messages)
    # fp16 is not among them: nothing runs as fp16 here.
    recalled = next(m for m in messages if "recalled" in m)
    assert "peak_tops_dense.int8" in recalled
    assert "peak_tops_dense.fp16" not in recalled


def test_two_files_of_a_folder_must_not_share_a_name(write):
    first = write(GOOD)
    write(GOOD.replace("id: board", "id: other\naliases: [board]"), "other.yaml")
    assert any(f.level == "error" and "other.yaml" in f.message for f in check(first))


def test_schema_covers_exactly_what_is_accepted(write):
    document = schema()
    required = set(document["required"])
    keys = {line.split(":")[0] for line in GOOD.splitlines() if line[0].isalpha()}
    assert required <= keys <= set(document["properties"])
    assert document["additionalProperties"] is False
    for key in required:
        start = GOOD.index(f"{key}:")
        rest = GOOD[start:].splitlines(keepends=True)
        size = next((i for i, line in enumerate(rest[1:], 1) if line[0].isalpha()), len(rest))
        with pytest.raises(ConfigError, match=rf"{key}\s+missing"):
            find(write(GOOD[:start] + "".join(rest[size:])))


def test_schema_lets_an_editor_accept_a_bare_number():
    figure = schema()["$defs"]["Figure"]
    assert {"type": "number", "exclusiveMinimum": 0} in figure["anyOf"]
    full = next(form for form in figure["anyOf"] if form.get("type") == "object")
    assert set(full["required"]) == {"value", "status", "source"}
