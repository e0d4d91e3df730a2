"""Programs of calls: what is refused, and what chaining gives each call to read."""

import pytest

from hwnas.errors import DeviceError
from hwnas.measure.program import Call, Constant, Part, Program, chained, repeated


def part(function, inputs, output, constants=()):
    return Part(function, inputs, constants, output, None, None)


def test_an_input_is_the_latest_output_of_its_size_or_longer():
    program = chained(
        [part("a", (8,), 16), part("b", (16,), 4), part("c", (16,), 8), part("d", (8, 16), 8)]
    )
    assert [call.inputs for call in program.calls] == [
        (("x", 8),), (("t0", 16),), (("t0", 16),), (("t2", 8), ("t0", 16)),
    ]  # fmt: skip
    assert program.inputs == {"x": 16}
    assert program.outputs == ("t3",)


def test_two_inputs_are_two_buffers_as_far_as_there_are_any():
    program = chained([part("a", (), 8), part("b", (), 8), part("add", (8, 8, 8), 8)])
    assert program.calls[2].inputs == (("t1", 8), ("t0", 8), ("x", 8))


def test_what_is_long_gone_is_not_read_any_more():
    program = chained([part("big", (), 100), *[part("s", (), 1)] * 4, part("wide", (100,), 1)])
    assert program.calls[-1].inputs == (("x", 100),)


def test_every_call_has_constants_of_its_own():
    weight, bias = Constant(6, "int8"), Constant(2, "float32")
    program = chained([part("a", (4,), 4, (weight, bias))] * 3)
    assert [call.constants for call in program.calls] == [
        ("c0_0", "c0_1"), ("c1_0", "c1_1"), ("c2_0", "c2_1"),
    ]  # fmt: skip
    assert program.constants["c2_0"] == weight


def test_repeats_read_the_same_input_and_other_constants():
    program = repeated(part("a", (4, 2), 4, (Constant(6, "int8"),)), 3)
    assert {call.inputs for call in program.calls} == {(("x", 4), ("x", 2))}
    assert [call.constants for call in program.calls] == [("c0_0",), ("c1_0",), ("c2_0",)]


@pytest.mark.parametrize(
    ("call", "outputs", "message"),
    [
        (Call("f", (("y", 4),), (), "t", 4), (), "f reads 4 scalars of 'y', which has not been"),
        (Call("f", (("x", 9),), (), "t", 4), (), "f reads 9 scalars of 'x', which has 8"),
        (Call("f", (), ("w",), "t", 4), (), "f uses the constants ['w']"),
        (Call("f", (), (), "x", 4), (), "f uses 'x' again"),
        (Call("f", (), (), "t", 4), ("u",), "nobody writes the outputs ['u']"),
    ],
)
def test_what_cannot_run_is_refused(call, outputs, message):
    with pytest.raises(DeviceError) as error:
        Program({"x": 8}, {}, (call,), outputs)
    assert message in str(error.value)
