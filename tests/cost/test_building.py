"""Building cost models and checking what they return."""

import numpy as np
import pytest

from cost_models.bitops import Bitops
from hwnas.cost import CostBatch, CostContext, CostModel, build, check_values, estimate
from hwnas.errors import CostError, PluginError
from search_spaces.toy import toy


class Half:
    name, unit, direction = "half", "things", "min"

    def __init__(self, context, *, offset=0.5):
        self.offset = offset

    def evaluate(self, archs):
        return np.full(len(archs), self.offset)


@pytest.fixture(scope="module")
def context():
    return CostContext(toy())


@pytest.fixture
def archs(context):
    return context.space.sample(np.random.default_rng(0), 3)


def test_a_class_is_called_with_the_context_and_its_options(context):
    model = build(Half, context, offset=2.0)
    assert model.offset == 2.0
    assert isinstance(model, CostModel)


def test_a_finished_model_is_returned_as_it_is(context):
    model = Half(context)
    assert build(model, context) is model
    with pytest.raises(PluginError, match="finished object and takes no options, got offset"):
        build(model, context, offset=1)


def test_a_registered_name_and_a_module_path_build_the_same(context):
    path = build("cost_models.bitops:Bitops", context)
    assert isinstance(path, Bitops)


def test_an_unknown_option_names_the_nearest(context):
    with pytest.raises(PluginError, match="did you mean offset for ofset"):
        build(Half, context, ofset=1)


def test_a_type_error_inside_the_plugin_is_not_taken_for_a_wrong_option(context):
    class Broken(Half):
        def __init__(self, context):
            super().__init__(context)
            self.offset = "a" + 1

    with pytest.raises(TypeError, match="can only concatenate"):
        build(Broken, context)


def test_all_broken_promises_are_named(context):
    class Empty:
        def __init__(self, context):
            self.direction = "up"

    with pytest.raises(PluginError) as error:
        build(Empty, context)
    for promise in ("name is None", "unit is None", "direction is 'up'", "evaluate(archs)"):
        assert promise in str(error.value)


def test_something_that_is_no_model_is_refused(context):
    with pytest.raises(PluginError, match="expected a class, a function"):
        build(3, context)


def test_values_must_be_finite_float64_of_the_right_length(context, archs):
    model = Half(context)
    good = model.evaluate(archs)
    assert check_values(model, archs, good) is good
    with pytest.raises(CostError, match="half returned list"):
        check_values(model, archs, [1.0, 2.0, 3.0])
    with pytest.raises(CostError, match=r"float64 of shape \(2,\) for 3 archs"):
        check_values(model, archs, good[:2])
    with pytest.raises(CostError, match="float32"):
        check_values(model, archs, good.astype(np.float32))
    with pytest.raises(CostError, match=f"half returned nan for arch {archs[1].id}"):
        check_values(model, archs, np.array([1.0, np.nan, 2.0]))
    with pytest.raises(CostError, match="inf"):
        check_values(model, archs, np.array([1.0, 2.0, np.inf]))


def test_estimate_of_a_model_without_interval(context, archs):
    batch = estimate(Half(context), archs)
    assert batch.lo is None
    assert batch.hi is None
    assert batch.value.tolist() == [0.5] * 3


def test_estimate_of_a_model_with_one(context, archs):
    batch = estimate(Bitops(context), archs)
    assert batch.fidelity == "analytic"
    assert batch.lo is batch.value


def test_a_batch_outside_its_own_interval_is_refused():
    one, two = np.array([1.0]), np.array([2.0])
    outside = np.zeros(1, bool)
    with pytest.raises(CostError, match="below its interval"):
        CostBatch(one, two, two, 0.9, outside, "predicted", "ms", "m")
    with pytest.raises(CostError, match="above its interval"):
        CostBatch(two, one, one, 0.9, outside, "predicted", "ms", "m")
    with pytest.raises(CostError, match="hi has shape"):
        CostBatch(one, one, np.zeros(2), 0.9, outside, "predicted", "ms", "m")


def test_a_context_says_what_to_pass(context):
    with pytest.raises(CostError, match=r"cost model latency needs a device.*--device NAME"):
        context.require("device", by="latency")
    with pytest.raises(CostError, match="asks for 'gpu'; known: device"):
        context.require("gpu", by="latency")


def test_a_supernet_is_loaded_on_demand_and_once():
    loads = []

    def load():
        loads.append(1)
        return "weights"

    context = CostContext(toy(), supernet=load)
    assert loads == []
    assert context.require("supernet", by="iou") == "weights"
    assert context.require("supernet", by="distortion") == "weights"
    assert loads == [1]
