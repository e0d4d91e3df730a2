"""The schedule of a recipe."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from hwnas.config.training import TrainConfig
from hwnas.supernet.training.elastic.phases import phases_of

_BATCH = [{"resolution": 256, "share": 1, "images": 1}]


def _config(**content: object) -> TrainConfig:
    steps = {"teacher": 5, "axes": 3, "bits": [2, 2, 4]}
    return TrainConfig.model_validate({"batches": _BATCH, "steps": steps, **content})


def test_architecture_before_bits_is_the_default() -> None:
    phases = phases_of(_config())
    names = ["teacher", "resolution", "depth", "width", "bits-4", "bits-3", "bits-2"]
    assert [p.name for p in phases] == names
    assert [p.opens for p in phases] == [(), (8,), (), (), (4,), (3,), (2,)]
    assert [p.bits for p in phases][-1] == (8, 4, 3, 2)
    assert [p.steps for p in phases] == [5, 3, 3, 3, 2, 2, 4]


def test_bits_before_architecture() -> None:
    phases = phases_of(_config(order="bits_then_arch"))
    names = ["teacher", "bits-8", "bits-4", "bits-3", "bits-2", "resolution", "depth", "width"]
    assert [p.name for p in phases] == names
    assert [p.roles for p in phases[:5]] == [()] * 5


def test_joint_takes_the_steps_of_all_and_opens_all() -> None:
    teacher, joint = phases_of(_config(order="joint"))
    assert (teacher.steps, joint.steps) == (5, 3 * 3 + 8)
    assert joint.opens == joint.bits == (8, 4, 3, 2)


def test_one_bit_width_at_a_time_closes_the_one_before() -> None:
    phases = phases_of(_config(keep_open=False))
    assert [p.bits for p in phases][-3:] == [(4,), (3,), (2,)]


def test_a_phase_without_steps_is_left_out_and_its_bits_open_later() -> None:
    phases = phases_of(_config(steps={"teacher": 0, "axes": 1, "bits": [0, 1, 1]}))
    assert phases[0].name == "resolution"
    assert phases[-2].opens == (4, 3)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"bits": [2, 8]}, "must fall"),
        ({"steps": {"bits": [1]}}, "expected one for each"),
        ({"epochs": 3}, "epochs"),
    ],
)
def test_impossible_recipes_are_refused(content: dict[str, object], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        _config(**content)
