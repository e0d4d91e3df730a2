"""The kits as the command line runs them: given names, files and module paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.errors import HwnasError
from hwnas.testing import check_cost_spec, check_device, check_space_spec
from hwnas.testing.workplace import Workplace, values_elsewhere

MODEL = """
import json, os
import numpy as np
from hwnas.space import Archs
from hwnas.registry import cost_models

@cost_models.register("{name}")
class Model:
    name, unit, direction = "{name}", "ms", "min"

    def __init__(self, context, *, scale=1.0):
        self.space, self.scale = context.space, scale

    def evaluate(self, archs):
        rows = (Archs.of(self.space, archs).matrix + 1.0).sum(axis=1)
        return self.scale * rows + {extra}
"""
FITTABLE = (
    MODEL
    + """
    def fit(self, archs, values):
        self.scale = {fitted}
        return {returned}

    def save(self, folder):
        (folder / "model.json").write_text(json.dumps(self.scale))

    @classmethod
    def load(cls, folder, context):
        return cls(context, scale=json.loads((folder / "model.json").read_text()))
"""
)


def write(folder: Path, text: str, **words: str) -> str:
    path = folder / f"{words['name']}.py"
    path.write_text(text.format(**words))
    return str(path)


def test_file_that_keeps_its_promises(tmp_path: Path) -> None:
    spec = write(tmp_path, MODEL, name="by_name_good", extra="0")
    assert check_cost_spec(spec, space="toy") == []
    assert check_cost_spec(spec, space="toy", options={"scale": 2.5}) == []


def test_model_that_differs_in_another_process_is_caught(tmp_path: Path) -> None:
    spec = write(tmp_path, MODEL, name="by_name_pid", extra="os.getpid()")
    (found,) = check_cost_spec(spec, space="toy")
    assert found.startswith("same in another process: another process gives [")


def test_options_reach_the_other_process(tmp_path: Path) -> None:
    spec = write(tmp_path, MODEL, name="by_name_options", extra="0")
    one = Workplace(spec, "toy", options={"scale": 1.0})
    space = one.context().space
    few = space.archs([space.smallest()])
    two = Workplace(spec, "toy", options={"scale": 2.0})
    assert 2 * values_elsewhere(one, few) == pytest.approx(values_elsewhere(two, few), abs=0)


def test_fittable_model_is_fitted_saved_and_sent(tmp_path: Path) -> None:
    words = {"extra": "0", "fitted": "float(np.mean(values))", "returned": "self"}
    spec = write(tmp_path, FITTABLE, name="by_name_fit", **words)
    assert check_cost_spec(spec, space="toy") == []


def test_fit_that_raises_or_returns_nothing_is_caught(tmp_path: Path) -> None:
    raises = {"extra": "0", "fitted": "1 / 0", "returned": "self"}
    spec = write(tmp_path, FITTABLE, name="by_name_raises", **raises)
    assert check_cost_spec(spec, space="toy") == ["fit: raises ZeroDivisionError: division by zero"]
    nothing = {"extra": "0", "fitted": "2.0", "returned": "None"}
    spec = write(tmp_path, FITTABLE, name="by_name_nothing", **nothing)
    assert check_cost_spec(spec, space="toy") == ["fit: does not return the model itself"]


def test_model_that_raises_is_a_broken_promise(tmp_path: Path) -> None:
    spec = write(tmp_path, MODEL, name="by_name_broken", extra="undefined_name")
    (found,) = check_cost_spec(spec, space="toy")
    assert found.startswith("evaluate: raises NameError: name 'undefined_name'")


def test_what_does_not_load_is_an_error_and_no_finding(tmp_path: Path) -> None:
    with pytest.raises(HwnasError, match=r"absent\.py"):
        check_cost_spec(str(tmp_path / "absent.py"), space="toy")
    with pytest.raises(HwnasError, match="did you mean 'toy'"):
        check_space_spec("toi")
    with pytest.raises(HwnasError, match="jetson"):
        check_device("jetson-orin-nanoo")


def test_space_that_differs_between_loads_is_caught(tmp_path: Path) -> None:
    path = tmp_path / "restless.py"
    path.write_text(
        "import itertools\n"
        "from hwnas.space import SearchSpace, ordinal\n"
        "from hwnas.registry import search_spaces\n"
        "count = itertools.count(2)\n"
        "@search_spaces.register('restless')\n"
        "def restless():\n"
        "    return SearchSpace('restless', [ordinal('depth', tuple(range(next(count))))])\n"
    )
    assert check_space_spec(str(path)) == ["loading: loaded twice, the space is another one"]


def test_wrong_device_file_is_caught(tmp_path: Path) -> None:
    path = tmp_path / "board.yaml"
    path.write_text("id: board\nname: Board\nkind: npu\nruntime: {name: sdk}\nram_bites: 3\n")
    found = check_device(path)
    assert any("ram_bites" in line for line in found)
