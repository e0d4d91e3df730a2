"""Campaigns: what is known is skipped, what fails costs one sample, a share is measured twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hwnas.errors import DeviceError
from hwnas.measure.campaign import Campaign, CampaignReport, Item, Standing
from hwnas.measure.measurement import Measurement
from hwnas.measure.store import MeasurementStore

LABEL = "arithmetic 1"


@dataclass
class Arithmetic:
    """Runs no device: a key takes as many milliseconds as it has letters, and says so."""

    breaks: Callable[[str], str] = lambda _: ""
    fingerprint: str = "paper"
    timed: list[str] = field(default_factory=list)
    slower: float = 1.0
    undisturbed: dict[str, int] = field(default_factory=dict)
    """How many of 20 repeats, where not all."""

    def time(self, subject: Any) -> Measurement:
        self.timed.append(subject)
        wrong = self.breaks(subject)
        if wrong == "Ctrl-C":
            raise KeyboardInterrupt
        value = None if wrong else len(subject) * self.slower
        status: Any = "failed" if wrong else "ok"
        return Measurement(
            "kernel", subject, self.fingerprint, LABEL, status, value, message=wrong,
            details={"cause": {"lost": "connection", "no such kernel": "unsupported"}.get(wrong)},
            reference_ms=0.5 * self.slower, repeats_ms=(value or 1.0,) * 20,
            clean=self.undisturbed.get(subject, 20),
        )  # fmt: skip


def items(count: int) -> list[Item]:
    keys = ["k" * (i + 1) for i in range(count)]
    return [Item("kernel", key, lambda key=key: key, {"number": len(key)}) for key in keys]


@pytest.fixture
def store(tmp_path: Path) -> MeasurementStore:
    return MeasurementStore(tmp_path / "s.sqlite")


def run(runner: Arithmetic, store: MeasurementStore, n: int, **options: Any) -> CampaignReport:
    again = {
        k: options.pop(k) for k in ("seconds", "again_share", "visits", "on_sample") if k in options
    }
    return Campaign(runner, LABEL, store, **options).run(items(n), **again)


def test_everything_is_measured_once_and_a_share_twice(store: MeasurementStore) -> None:
    standings: list[Standing] = []
    runner = Arithmetic()
    report = run(runner, store, 100, on_sample=standings.append)
    assert (report.measured, report.known, report.failed, report.left) == (100, 0, (), 0)
    assert len(runner.timed) == 105
    assert runner.timed[100:] == ["k" * n for n in (1, 26, 51, 75, 100)]
    assert report.noise_floor_pct == report.drift_pct == 0.0
    assert standings[-1].done == standings[-1].total == 105
    rows = store.rows()
    assert [r.details["number"] for r in rows[:3]] == [1, 2, 3]
    assert [bool(r.details.get("again")) for r in rows].count(True) == 5
    assert all(r.measured_at for r in rows)


def test_a_second_campaign_measures_nothing_and_reports_the_same(store: MeasurementStore) -> None:
    first = run(Arithmetic(), store, 40)
    runner = Arithmetic()
    second = run(runner, store, 40)
    assert runner.timed == []
    assert (second.measured, second.known, second.again) == (0, 40, first.again)


def test_more_samples_go_on_where_fewer_ended(store: MeasurementStore) -> None:
    run(Arithmetic(), store, 10)
    runner = Arithmetic()
    report = run(runner, store, 12, again_share=0)
    assert (report.known, runner.timed) == (10, ["k" * 11, "k" * 12])


def test_another_runner_version_is_another_measurement(store: MeasurementStore) -> None:
    run(Arithmetic(), store, 5)
    runner = Arithmetic(fingerprint="paper, folded")
    assert run(runner, store, 5).measured == 5


def test_failures_are_recorded_and_not_tried_again_unless_asked(store: MeasurementStore) -> None:
    def breaks(key: str) -> str:
        return {3: "crashed: signal 11", 5: "lost"}.get(len(key), "")

    report = run(Arithmetic(breaks), store, 8, again_share=0)
    assert report.failed == (("kkk", "crashed: signal 11"), ("kkkkk", "lost"))
    runner = Arithmetic()
    assert run(runner, store, 8, again_share=0).known == 7
    assert runner.timed == ["kkkkk"]  # a lost connection was not the kernel's fault
    runner = Arithmetic()
    run(runner, store, 8, again_share=0, retry_failed=True)
    assert runner.timed == ["kkk"]


def test_many_failures_in_a_row_stop_with_everything_saved(store: MeasurementStore) -> None:
    runner = Arithmetic(lambda key: "no route" if len(key) > 7 else "")
    with pytest.raises(DeviceError, match=r"10 measurements in a row.*no route.*same command"):
        run(runner, store, 50)
    assert len(store) == 17


def test_ctrl_c_loses_nothing(store: MeasurementStore) -> None:
    runner = Arithmetic(lambda key: "Ctrl-C" if len(key) == 5 else "")
    with pytest.raises(KeyboardInterrupt):
        run(runner, store, 50)
    assert len(store) == 4
    assert run(Arithmetic(), store, 50).known == 4


def test_no_time_leaves_all_and_says_so(store: MeasurementStore) -> None:
    report = run(Arithmetic(), store, 9, seconds=0.0)
    assert (report.measured, report.left, report.noise_floor_pct) == (0, 9, None)


def test_drift_is_seen_by_the_reference_and_the_share(store: MeasurementStore) -> None:
    campaign = Campaign(runner := Arithmetic(), LABEL, store)

    def warm(standing: Standing) -> None:
        runner.slower = 1.0 + 0.001 * standing.done

    report = campaign.run(items(40), on_sample=warm)
    assert report.drift_pct == pytest.approx(4.2, abs=0.2)
    assert report.noise_floor_pct == pytest.approx(2.1, abs=0.5)


def test_what_was_measured_while_the_device_was_disturbed_is_measured_again(
    store: MeasurementStore,
) -> None:
    campaign = Campaign(runner := Arithmetic(), LABEL, store)

    def disturb(standing: Standing) -> None:
        runner.slower = 3.0 if standing.done == 6 else 1.0

    campaign.run(items(20), on_sample=disturb)
    assert runner.timed[-1] == "k" * 7
    found = store.latest("kernel", "k" * 7, "paper", LABEL)
    assert found is not None
    assert found.value_ms == 7.0


@pytest.mark.parametrize("visits", [1, 2, 4])
def test_what_stays_disturbed_is_visited_so_often_and_no_more(
    store: MeasurementStore, visits: int
) -> None:
    runner = Arithmetic(undisturbed={"k" * 7: 10, "k" * 9: 15})
    report = run(runner, store, 20, again_share=0, visits=visits)
    assert runner.timed[20:] == ["k" * 7] * (visits - 1)
    assert (report.measured, report.again) == (20, ())
    run(runner, store, 20, again_share=0, visits=visits)
    assert len(runner.timed) == 20 + visits - 1


def test_a_calm_visit_ends_the_visits(store: MeasurementStore) -> None:
    runner = Arithmetic(undisturbed={"k" * 7: 10})
    run(runner, store, 10, again_share=0, visits=1)
    runner.undisturbed.clear()
    run(runner, store, 10, again_share=0, visits=5)
    assert runner.timed[10:] == ["k" * 7]
    assert [row.details.get("visit") for row in store.rows("kernel", key="k" * 7)] == [None, 2]


def test_what_the_runner_does_not_know_does_not_stop_it(store: MeasurementStore) -> None:
    runner = Arithmetic(lambda key: "no such kernel" if len(key) < 30 else "")
    report = run(runner, store, 32, again_share=0)
    assert (report.measured, len(report.failed)) == (3, 29)


def test_what_another_process_is_at_comes_last(
    store: MeasurementStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"kk": [False, False, True]}  # the other process is at it, and then it is not

    def claim(subject: str, key: str, *_: str) -> bool:
        return answers[key].pop(0) if key in answers else True

    monkeypatch.setattr(store, "claim", claim)
    runner = Arithmetic()
    report = run(runner, store, 4, again_share=0)
    assert runner.timed == ["k", "kkk", "kkkk", "kk"]
    assert report.measured == 4


def test_fresh_measures_what_is_known(store: MeasurementStore) -> None:
    run(Arithmetic(), store, 3)
    runner = Arithmetic()
    assert run(runner, store, 3, fresh=True).measured == 3
