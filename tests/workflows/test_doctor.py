"""What `hwnas doctor` finds; other processes are replaced where they would be slow."""

from importlib.metadata import EntryPoint

import pytest

from hwnas.workflows import doctor as module
from hwnas.workflows.doctor import CheckResult, doctor


@pytest.fixture
def results(monkeypatch):
    """Run the doctor with the given answers of other processes; results by check."""

    def run(answer=(None, "schemas-only"), version="1.0"):
        monkeypatch.setattr(module, "_tried", lambda code: answer)
        monkeypatch.setattr(module, "_version", lambda name: version)
        monkeypatch.setattr(module, "_measuring", list)
        return {result.check: result for result in doctor()}

    return run


def test_every_part_is_looked_at_and_nothing_is_printed(results, capsys):
    found = results()
    assert {
        "python", "packages", "extra tvm", "segment_anything", "tvm", "processor", "memory", "disk",
        "shipped files", "cost models", "search spaces", "devices",
    } <= set(found)  # fmt: skip
    assert "bitops" in found["cost models"].message
    assert "toy" in found["search spaces"].message
    assert found["devices"].level == "ok"
    assert capsys.readouterr() == ("", "")


def test_missing_packages_are_errors_and_missing_extras_warnings(results):
    found = results(version=None)
    assert found["packages"].level == "error"
    assert "numpy" in found["packages"].message
    assert found["extra tvm"].level == "warning"
    assert "pip install 'hwnas[tvm]'" in found["extra tvm"].message
    assert found["tvm"].level == "warning"


def test_a_crash_of_tvm_is_a_finding_with_the_pin(results):
    found = results(answer=("the process died of signal 11", ""))
    assert found["tvm"].level == "warning"
    assert "signal 11" in found["tvm"].message
    assert "apache-tvm-ffi>=0.1.14.post0,<0.1.15" in found["tvm"].message
    assert found["segment_anything"].level == "error"


def test_a_missing_shipped_file_is_named(results, monkeypatch):
    monkeypatch.setattr(module, "_SHIPPED", ("nuclei/image.png",))
    assert results()["shipped files"].level == "ok"
    monkeypatch.setattr(module, "_SHIPPED", ("nuclei/image.png", "absent.bin"))
    found = results()["shipped files"]
    assert found.level == "error"
    assert found.message.startswith("missing or empty: ")
    assert "absent.bin" in found.message
    assert "image.png" not in found.message


def test_a_broken_plugin_hurts_only_itself(results, monkeypatch):
    points = [EntryPoint("broken", "not_installed_anywhere:Cost", "hwnas.cost_models"),
              EntryPoint("fine", "collections:Counter", "hwnas.cost_models")]  # fmt: skip
    monkeypatch.setattr(
        "hwnas.registry.registry.entry_points",
        lambda group: points if group == "hwnas.cost_models" else [],
    )
    found = results()
    assert found["cost model broken"].level == "warning"  # not ours
    assert "not_installed_anywhere" in found["cost model broken"].message
    assert "fine" in found["cost models"].message


def test_little_room_is_a_warning(results, monkeypatch):
    monkeypatch.setattr(module, "_GIB", 2**80)
    found = results()
    assert found["memory"].level == found["disk"].level == "warning"
    assert "below 4 GiB" in found["memory"].message


@pytest.mark.parametrize(
    ("code", "problem", "printed"),
    [
        ("print('one'); print('two')", None, "two"),
        ("raise ValueError('no good')", "ValueError: no good", ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "died of signal 9", ""),
        ("import hwnas", None, ""),
    ],
)
def test_code_in_another_process(code, problem, printed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong, said = module._tried(code)
    assert said == printed
    assert (wrong is None) if problem is None else (problem in wrong)


def test_a_process_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.2)
    assert module._tried("import time; time.sleep(60)") == ("no answer within 0.2 s", "")


def test_quick_compiles_nothing(results, monkeypatch):
    results()
    monkeypatch.setattr(module, "_measuring", lambda: [CheckResult("timing", "ok", "steady")])
    assert "timing" in {result.check for result in doctor()}
    assert "timing" not in {result.check for result in doctor(quick=True)}


def test_results_are_values():
    assert CheckResult("a", "ok", "b") == CheckResult("a", "ok", "b")


@pytest.mark.tvm
@pytest.mark.slow
def test_measuring_is_tried_for_real():
    pytest.importorskip("tvm")
    from hwnas.workflows.doctor_measuring import measuring

    found = {finding.check: finding for finding in measuring()}
    assert set(found) == {"tvm round trip", "timing", "rpc round trip"}
    assert found["tvm round trip"].level == "ok", found["tvm round trip"].message
    assert "compiled, equal to torch" in found["tvm round trip"].message
    assert "coefficient of variation" in found["timing"].message
    assert found["rpc round trip"].level == "ok", found["rpc round trip"].message


def test_a_server_that_does_not_start_is_a_finding(monkeypatch):
    from hwnas.workflows import doctor_measuring

    monkeypatch.setattr(doctor_measuring.sys, "executable", "/bin/false")
    finding = doctor_measuring._over_rpc()
    assert finding.level == "warning"
    assert "RPC server does not start" in finding.message
