"""The timing protocol on made-up clocks: what counts, when it stops, what it says."""

import numpy as np
import pytest

from hwnas.device.fields import MeasuringProtocol
from hwnas.measure.quiet import Quiet
from hwnas.measure.samples import Rules, Sample, sampled
from hwnas.measure.timing import take

RULES = Rules(warmup=2, repeats=4, budget_s=100.0)


def playing(times, cpu=lambda wall: wall):
    """Return a subject that takes these times, one call after another, the last for ever."""
    times = list(times)
    calls = []

    def timed():
        wall = times.pop(0) if len(times) > 1 else times[0]
        calls.append(wall)
        return [Sample(wall, cpu(wall))]

    timed.calls = calls
    return timed


def test_two_sessions_that_agree_are_enough():
    subject = playing([9, 9, 2.0, 2.1, 2.0, 2.2, 2.02])
    timing = take(subject, None, RULES)
    assert len(subject.calls) == 2 + 2 * 4
    assert timing.value_ms == 2.0
    assert timing.sessions_ms == (2.0, 2.02)
    assert timing.clean == len(timing.repeats_ms) == 8
    assert timing.reference_ms is None
    assert not timing.noisy


def test_sessions_go_on_until_two_agree():
    subject = playing([1, 1, *[4.0] * 4, *[3.0] * 4, *[2.0] * 4, *[2.01] * 4])
    timing = take(subject, None, RULES)
    assert timing.sessions_ms == (4.0, 3.0, 2.0, 2.01)
    assert timing.value_ms == 2.0
    assert not timing.noisy


def test_when_the_budget_is_used_up_the_value_is_noisy():
    now = iter((0, 200))
    subject = playing([1, 1, *[4.0] * 4, *[3.0] * 4, 2.0])
    timing = take(subject, None, RULES, clock=lambda: next(now))
    assert timing.sessions_ms == (4.0, 3.0)
    assert timing.noisy
    assert timing.message.startswith("the two fastest of 2 sessions differ by 33.3 %")


def test_a_repeat_that_waited_for_the_processor_does_not_count():
    subject = playing([1, 1, 5.0, 2.0, 5.0, 2.0, 2.0], cpu=lambda wall: min(wall, 2.0))
    median = Rules(warmup=2, repeats=4, statistic="median")
    timing = take(subject, None, median)
    assert timing.value_ms == 2.0
    assert timing.clean == 6
    assert 5.0 in timing.repeats_ms


def test_with_too_few_clean_repeats_the_processor_time_stands_in():
    timing = take(playing([5.0], cpu=lambda _: 2.0), None, RULES)
    assert timing.value_ms == 2.0
    assert timing.clean == 0
    assert timing.message.startswith("only 0 undisturbed repeats")


def test_without_processor_time_outliers_are_rejected():
    rules = Rules(warmup=0, repeats=9, statistic="median")
    walls = [2.0, 2.1, 1.9, 2.0, 2.1, 1.9, 2.0, 2.0, 50.0]
    timing = take(playing([*walls, *walls, 2.0], cpu=lambda _: None), None, rules)
    assert timing.value_ms == 2.0
    assert timing.clean == 16
    assert not timing.noisy


def test_the_reference_runs_in_the_same_rounds():
    order = []

    def recorded(name, ms):
        return lambda: order.append(name) or [Sample(ms, ms)]

    timing = take(recorded("subject", 2.0), recorded("reference", 0.5), RULES)
    assert timing.reference_ms == 0.5
    assert order[:4] == ["subject", "subject", "reference", "reference"]
    session = [*["reference", "reference", "subject"] * 4, "reference", "reference"]
    assert order[4:] == session * 2


class Machine:
    """Takes 2 ms for the subject and 0.5 for the reference, half as much again where it is slow.

    `slow` are stretches of calls of the reference, as (first, last).
    """

    def __init__(self, *slow):
        self.slow, self.probes = slow, 0

    @property
    def factor(self):
        return 1.5 if any(a <= self.probes <= b for a, b in self.slow) else 1.0

    def reference(self):
        self.probes += 1
        return [Sample(0.5 * self.factor, 0.5 * self.factor)]

    def subject(self):
        return [Sample(2.0 * self.factor, 2.0 * self.factor)]


def test_a_repeat_waits_until_the_reference_is_fast():
    machine = Machine((8, 40))
    timing = take(machine.subject, machine.reference, RULES)
    assert timing.value_ms == 2.0
    assert not timing.noisy
    assert machine.probes > 40


def test_what_ran_beside_a_slow_reference_does_not_count():
    """Sessions in which the machine is slow throughout agree with each other, and say nothing."""
    quiet = Quiet()
    for _ in range(30):
        assert quiet.accepts(0.5)
    machine = Machine((0, 22), (40, 10**9))
    rules = Rules(warmup=0, repeats=4, budget_s=0.2, patience_s=0.0, statistic="median")
    timing = take(machine.subject, machine.reference, rules, quiet=quiet)
    assert timing.value_ms == 2.0
    assert 0 < timing.clean < len(timing.repeats_ms)
    assert timing.sessions_ms[0] == 3.0


def test_where_the_reference_is_never_fast_the_value_is_noisy():
    quiet = Quiet()
    for _ in range(400):
        quiet.accepts(0.5)
    machine = Machine((0, 10**9))
    rules = Rules(warmup=0, repeats=4, budget_s=0.05, patience_s=0.0, max_sessions=3)
    timing = take(machine.subject, machine.reference, rules, quiet=quiet)
    assert timing.value_ms == 3.0
    assert timing.clean == 0
    assert timing.noisy
    assert "the reference was slower than usual" in timing.message


def test_a_machine_that_stays_slower_is_usual_after_a_while():
    quiet = Quiet()
    for _ in range(600):
        quiet.accepts(0.5)
    assert not quiet.accepts(0.7)
    assert [quiet.accepts(0.7) for _ in range(600)][-1]


def test_several_calls_are_shared_out():
    done = []
    timed = sampled(lambda: done.append(sum(range(20_000))), 4)
    (whole,) = sampled(lambda: sum(range(20_000)))()
    (sample,) = timed()
    assert len(done) == 1
    assert sample.times == 4
    assert 0 < sample.wall_ms < whole.wall_ms * 50
    assert sample.cpu_ms is not None
    assert sampled(lambda: None, cpu=False)()[0].cpu_ms is None


def test_the_slack_for_short_calls_is_that_of_the_whole_sample():
    def short():
        return [Sample(0.004, 0.001, times=50)]  # 0.2 ms of which 0.15 ms were waited for

    assert take(short, None, RULES).clean == 0


def test_rules_take_over_a_profile():
    rules = Rules.of(MeasuringProtocol(warmup=3, repeats=2, statistic="median"), budget_s=4.0)
    assert (rules.warmup, rules.repeats, rules.statistic) == (3, 2, "median")
    assert rules.min_clean == 2
    assert rules.budget_s == 4.0


@pytest.mark.parametrize("seed", range(3))
def test_a_few_disturbances_do_not_move_the_minimum(seed):
    rng = np.random.default_rng(seed)
    walls = 3.0 * (1 + np.abs(rng.normal(0, 0.005, 200)))
    walls[rng.random(200) < 0.3] *= 4
    timing = take(playing(walls, cpu=lambda wall: min(wall, 3.05)), None, Rules())
    assert timing.value_ms == pytest.approx(3.0, rel=0.01)
