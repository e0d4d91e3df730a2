"""What `hwnas devices show` prints."""

from hwnas.device import find, from_dict, show

RECORD = {
    "date": "2026-11-22", "fingerprint": "x | tvm 0.27 | threads n/a | 30w", "space": "sam-vit-t",
    "samples": 40, "mape": 4.5, "within_10pct": 0.95, "kendall_tau": 0.97, "noise_floor_pct": 1.5,
}  # fmt: skip


def test_every_figure_has_a_row_with_unit_status_and_source():
    profile = find("jetson-orin:30w")
    rows = {row["field"]: row for row in show(profile)}
    assert rows["peak_tops_dense.int8"]["value"] == 20.5
    assert rows["peak_tops_dense.int8"]["unit"] == "TOPS"
    assert rows["peak_tops_dense.int8"]["status"] == "derived"
    assert "Accelerator-SW" in rows["peak_tops_dense.int8"]["source"]
    assert rows["ram_bytes"]["value"] == 64 * 2**30
    assert "30w (others: maxn, 50w, 15w)" in rows["mode"]["value"]
    assert set(profile.figures()) <= set(rows)


def test_settings_say_how_energy_and_latency_come_about():
    rows = {row["field"]: row["value"] for row in show(find("t4"))}
    assert rows["energy"] == "power x time"
    assert "roofline estimate" in rows["calibration"]
    assert rows["w4a4"].startswith("int4, native")
    assert rows["w3a3"].startswith("int4, emulated")


def test_a_pair_that_does_not_run_is_said_so():
    values = find("snapdragon-8-gen-3").to_dict()
    del values["fallback"]
    rows = {row["field"]: row["value"] for row in show(from_dict(values))}
    assert rows["w32a32"] == "does not run"
    assert rows["w8a16"].startswith("int8x16, native")


def test_a_calibration_belongs_to_its_mode_and_survives_a_round_trip():
    values = find("jetson-orin:30w").to_dict()
    values["modes"]["30w"]["calibration"] = RECORD
    profile = from_dict(values)
    assert profile.calibrations[0].samples == 40
    assert "MAPE 4.5 %" in next(r["value"] for r in show(profile) if r["field"] == "calibration")
    assert from_dict(profile.to_dict()).calibrations == profile.calibrations


def test_profiles_can_be_keys_and_are_equal_by_content():
    assert len({find("t4"), find("t4"), find("l4")}) == 2
    assert find("jetson-orin:30w") != find("jetson-orin:50w")
