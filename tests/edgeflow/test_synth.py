"""The synthetic machines: the same sound from the same seed, and faults where physics puts them."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from edgeflow.synth import MACHINE_TYPES, RATE_HZ, SynthSpec, anomaly_for, render, synthesise
from edgeflow.synth.anomalies import DAMAGE, HEALTHY, Anomaly, Condition, condition_of
from edgeflow.synth.machines import PEAK, render_parts, station_of
from edgeflow.synth.reciprocating import Slider, Valve
from edgeflow.synth.rotating import Fan, Pump, ToyCar, ToyConveyor
from edgeflow.synth.sources import gain, rms
from edgeflow_runtime.errors import ConfigError, DataError, StorageError

SMALL = SynthSpec(types=("fan", "valve"), machines=2, clips=3, seconds=1.0)
FAULTS = [(name, kind) for name, kinds in DAMAGE.items() for kind in kinds]


def power(sound: NDArray[Any], low_hz: float, high_hz: float) -> float:
    """Mean-square part of ``sound`` between two frequencies."""
    lines = np.abs(np.fft.rfft(sound)) ** 2 * 2 / len(sound) ** 2
    hz = np.fft.rfftfreq(len(sound), 1 / RATE_HZ)
    return float(lines[(hz >= low_hz) & (hz < high_hz)].sum())


def peak_hz(sound: NDArray[Any], low_hz: float, high_hz: float) -> float:
    """Frequency of the strongest line between two frequencies."""
    lines = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    hz = np.fft.rfftfreq(len(sound), 1 / RATE_HZ)
    lines[(hz < low_hz) | (hz > high_hz)] = 0
    return float(hz[np.argmax(lines)])


def machine(name: str, index: int = 0) -> Any:
    return station_of(0, name, index).machine


def sound(name: str, state: Condition = HEALTHY, index: int = 0, s: int = 8) -> NDArray[Any]:
    """The dry sound of a machine; the same draw of everything random for every condition."""
    made = machine(name, index).sound(np.random.default_rng(5), s * RATE_HZ, state)
    return np.asarray(made)


# the same clip from the same seed


@pytest.mark.parametrize("name", MACHINE_TYPES)
def test_a_clip_depends_on_its_own_seed_alone(name: str) -> None:
    spec = SynthSpec(seconds=1.0, seed=3)
    alone = render(spec, name, 1, 4)
    station_of.cache_clear()
    other = replace(spec, types=(name,), machines=2, clips=7)
    render(other, name, 0, 0, anomalous=True)
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(render, other, name, 1, number) for number in (5, 4, 3)]
        again = jobs[1].result()
    assert again.tobytes() == alone.tobytes()


def test_clips_differ_by_seed_type_machine_condition_and_number() -> None:
    spec = SynthSpec(seconds=1.0)
    clips = [
        render(spec, "fan", 0, 0),
        render(replace(spec, seed=1), "fan", 0, 0),
        render(spec, "pump", 0, 0),
        render(spec, "fan", 1, 0),
        render(spec, "fan", 0, 1),
        render(spec, "fan", 0, 0, anomalous=True),
    ]
    assert len({clip.tobytes() for clip in clips}) == len(clips)


@pytest.mark.parametrize(
    ("name", "level"),
    [
        # made with render(SynthSpec(seconds=2.0), name, 0, 0); a change here must raise GENERATOR
        ("fan", 0.014662),
        ("pump", 0.016404),
        ("slider", 0.013973),
        ("valve", 0.020296),
        ("ToyCar", 0.017071),
        ("ToyConveyor", 0.027058),
    ],
)
def test_the_sounds_are_those_of_this_generator_version(name: str, level: float) -> None:
    assert rms(render(SynthSpec(seconds=2.0), name, 0, 0)) == pytest.approx(level, rel=1e-3)


# levels


@pytest.mark.parametrize("name", MACHINE_TYPES)
@pytest.mark.parametrize("anomalous", [False, True])
def test_no_clip_is_clipped_or_silent(name: str, anomalous: bool) -> None:
    spec = SynthSpec(seconds=2.0)
    for index in range(4):
        for number in range(4):
            clip = render(spec, name, index, number, anomalous=anomalous)
            assert clip.dtype == np.float32
            assert clip.shape == (2 * RATE_HZ,)
            assert np.max(np.abs(clip)) < PEAK  # so it was not turned down either
            assert -44 < 20 * np.log10(rms(clip)) < -26


@pytest.mark.parametrize("snr_db", [-6.0, 6.0])
@pytest.mark.parametrize("name", MACHINE_TYPES)
def test_the_snr_is_the_one_asked_for(name: str, snr_db: float) -> None:
    spec = SynthSpec(seconds=4.0, snr_db=snr_db)
    found = []
    for number in range(8):
        parts = render_parts(spec, name, number % 4, number)
        found.append(20 * np.log10(rms(parts.machine) / rms(parts.noise)))
    assert np.mean(found) == pytest.approx(snr_db, abs=1.0)


def test_a_clip_is_the_sum_of_its_parts() -> None:
    parts = render_parts(SMALL, "pump", 0, 0)
    assert np.array_equal(parts.machine + parts.noise, render(SMALL, "pump", 0, 0))


# faults


@pytest.mark.parametrize(("name", "kind"), FAULTS)
def test_every_fault_changes_the_sound_and_more_when_severe(name: str, kind: str) -> None:
    healthy = sound(name, s=4)
    changes = [
        rms(sound(name, condition_of(name, Anomaly(kind, severity)), s=4) - healthy)
        for severity in (0.0, 1.0)
    ]
    assert changes[0] > 0.0
    assert changes[1] > 0.03 * rms(healthy)
    if kind in {"bearing", "leak", "unbalance", "worn_gear"}:
        mild, severe = DAMAGE[name][kind]
        assert changes[1] / changes[0] == pytest.approx(gain(severe - mild), rel=0.01)


@pytest.mark.parametrize("name", ["fan", "pump", "ToyConveyor"])
def test_a_bearing_strikes_at_its_fault_frequency(name: str) -> None:
    made = machine(name)
    shaft_hz = made.roller_hz if isinstance(made, ToyConveyor) else made.rotation_hz
    fault_hz = made.bearing.outer_race_order * shaft_hz

    def line(clip: NDArray[Any]) -> float:
        """Strength of the envelope's line near the fault frequency over the lines around it."""
        spectrum = np.fft.rfft(clip)
        spectrum[: int(1500 / RATE_HZ * len(clip))] = 0
        envelope = np.abs(np.fft.rfft(np.square(np.fft.irfft(spectrum))))
        hz = np.fft.rfftfreq(len(clip), 1 / RATE_HZ)
        near = envelope[np.abs(hz / fault_hz - 1) < 0.04]  # load and drift
        return float(near.max() / np.median(near))

    assert line(sound(name, Condition(bearing=0.3))) > 3 * line(sound(name))


@pytest.mark.parametrize("name", ["pump", "valve"])
def test_a_leak_hisses_high_and_leaves_the_lows_alone(name: str) -> None:
    healthy, leaking = sound(name), sound(name, Condition(leak=gain(-12)))
    added = power(leaking, 3000, 8000) - power(healthy, 3000, 8000)
    assert added == pytest.approx(gain(-24), rel=0.3)  # gain(-12) squared
    assert power(leaking, 20, 400) == pytest.approx(power(healthy, 20, 400), rel=0.02)


@pytest.mark.parametrize("name", ["fan", "ToyCar", "ToyConveyor"])
def test_a_low_supply_lowers_the_rotation_frequency(name: str) -> None:
    made = machine(name)
    if isinstance(made, Fan):
        tone_hz = made.rotation_hz * made.blades
    else:
        assert isinstance(made, ToyCar | ToyConveyor)
        tone_hz = made.motor_hz * (made.pinion if isinstance(made, ToyCar) else made.gear)
    at_full = peak_hz(sound(name), 0.95 * tone_hz, 1.05 * tone_hz)
    at_low = peak_hz(sound(name, Condition(voltage_drop=0.1)), 0.85 * tone_hz, 0.95 * tone_hz)
    assert at_low / at_full == pytest.approx(0.9, abs=0.01)


def test_a_low_supply_softens_the_valve() -> None:
    soft = sound("valve", Condition(voltage_drop=0.3))
    assert np.max(np.abs(soft)) < 0.9 * np.max(np.abs(sound("valve")))


def test_unbalance_raises_the_line_at_the_shaft_speed() -> None:
    made = machine("fan")
    assert isinstance(made, Fan)
    band = 0.9 * made.rotation_hz, 1.1 * made.rotation_hz
    rise = power(sound("fan", Condition(unbalance=0.5)), *band) / power(sound("fan"), *band)
    assert 10 * np.log10(rise) > 6


def test_a_worn_gear_raises_the_sidebands_of_the_mesh() -> None:
    made = machine("ToyCar")
    assert isinstance(made, ToyCar)
    shaft_hz, mesh_hz = made.motor_hz, made.motor_hz * made.pinion
    bands = [(mesh_hz + k * shaft_hz, mesh_hz + (k + 0.6) * shaft_hz) for k in (-1.3, 0.7)]
    worn, healthy = sound("ToyCar", Condition(worn_gear=0.5)), sound("ToyCar")
    for low, high in bands:
        assert power(worn, low, high) > 2 * power(healthy, low, high)


@pytest.mark.parametrize("name", ["slider", "ToyConveyor"])
def test_a_slipping_belt_squeals(name: str) -> None:
    made = machine(name)
    assert isinstance(made, Slider | ToyConveyor)
    band = 0.96 * made.squeal_hz, 1.04 * made.squeal_hz
    slipping = sound(name, Condition(slipping_belt=0.5))
    assert power(slipping, *band) > 1.3 * power(sound(name), *band)


def test_a_missing_stroke_is_missing() -> None:
    made = machine("valve")
    assert isinstance(made, Valve)

    def strokes(clip: NDArray[Any]) -> int:
        """Starts of loud spells that come after more than half a period of quiet."""
        loud = np.flatnonzero(np.abs(clip) > 0.25 * np.max(np.abs(clip)))
        return 1 + int(np.sum(np.diff(loud) > made.period_s * RATE_HZ / 2))

    whole, lacking = strokes(sound("valve")), strokes(sound("valve", Condition(missing_stroke=0.3)))
    assert whole == pytest.approx(8 / made.period_s, rel=0.15)
    assert whole - lacking == pytest.approx(0.3 * whole, abs=1.0)


def test_a_slider_that_misses_strokes_rests_longer() -> None:
    def moving(clip: NDArray[Any]) -> float:
        frames = np.sqrt(np.mean(clip.reshape(-1, 160) ** 2, axis=1))
        return float(np.mean(frames > 0.1 * np.max(np.sort(frames)[:-20])))

    lacking = sound("slider", Condition(missing_stroke=0.4))
    assert moving(lacking) < 0.8 * moving(sound("slider"))


def test_machines_of_a_type_differ_in_speed() -> None:
    speeds = [machine("pump", index) for index in range(4)]
    assert all(isinstance(pump, Pump) for pump in speeds)
    hz = [pump.rotation_hz for pump in speeds]
    assert all(after / before > 1.05 for before, after in pairwise(hz))


def test_severe_faults_stand_out_and_mild_ones_hide() -> None:
    spec = SynthSpec(seconds=3.0)

    def features(numbers: range, anomalous: bool = False) -> NDArray[Any]:
        edges = np.geomspace(40, 7900, 33)
        clips = [render(spec, "fan", 1, number, anomalous=anomalous) for number in numbers]
        pairs = list(pairwise(edges))
        return np.log([[power(clip, low, high) for low, high in pairs] for clip in clips])

    train = features(range(24))
    centre, width = train.mean(axis=0), train.std(axis=0)

    def scores(vectors: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.mean(((vectors - centre) / width) ** 2, axis=1))

    normal, odd = scores(features(range(24, 40))), scores(features(range(24), anomalous=True))
    severity = np.array([anomaly_for(spec, "fan", 1, number).severity for number in range(24)])
    auc = np.mean(odd[:, None] > normal, axis=1)  # of each anomaly by itself
    assert auc[severity > 0.7].mean() > 0.9
    assert auc[severity < 0.3].mean() < 0.85


def test_severities_fill_the_range_and_kinds_take_turns() -> None:
    made = [anomaly_for(SynthSpec(), "slider", 2, number) for number in range(30)]
    for kind in DAMAGE["slider"]:
        found = sorted(anomaly.severity for anomaly in made if anomaly.kind == kind)
        assert len(found) == 10
        assert found[0] < 0.2
        assert found[-1] > 0.8


# the set on disk


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "set"
    assert synthesise(out, SMALL) == 2 * 2 * (3 + 5 + 5)
    return out


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_layout_and_names_are_the_challenge_s(made: Path) -> None:
    expected = {"synth.json", "anomalies.csv"}
    for name in ("fan", "valve"):
        for identity in ("00", "02"):
            start = f"{name}/train/normal_id_{identity}"
            expected |= {f"{start}_{number:08d}.wav" for number in range(3)}
            start = f"{name}/test/normal_id_{identity}"
            expected |= {f"{start}_{number:08d}.wav" for number in range(3, 8)}
            start = f"{name}/test/anomaly_id_{identity}"
            expected |= {f"{start}_{number:08d}.wav" for number in range(5)}
    assert set(digest(made)) == expected


def test_files_are_16_bit_mono_at_16_khz_and_hold_the_rendered_clip(made: Path) -> None:
    file = made / "valve/test/anomaly_id_02_00000002.wav"
    info = soundfile.info(file)
    assert (info.samplerate, info.channels, info.subtype) == (RATE_HZ, 1, "PCM_16")
    heard, _ = soundfile.read(file)
    clip = render(SMALL, "valve", 1, 2, anomalous=True)
    assert np.max(np.abs(heard - clip)) < 1e-4


def test_the_table_names_every_anomaly(made: Path) -> None:
    with (made / "anomalies.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} == {name for name in digest(made) if "anomaly_id" in name}
    for row in rows:
        name, _, wav = row["file"].split("/")
        index, number = int(wav.split("_")[2]) // 2, int(wav[-12:-4])
        truth = anomaly_for(SMALL, name, index, number)
        assert (row["kind"], float(row["severity"])) == (truth.kind, truth.severity)


def test_a_second_run_reuses_what_stands(made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    assert synthesise(made, replace(SMALL, types=("valve", "fan"))) == 0
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_an_unfinished_set_is_finished(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    synthesise(out, SMALL)
    (out / "synth.json").rename(out / "synth.partial.json")
    (out / "fan/train/normal_id_00_00000001.wav").unlink()
    assert synthesise(out, SMALL) == 1
    assert digest(out) == digest(made)


def test_another_spec_is_refused_and_nothing_lost(made: Path) -> None:
    before = digest(made)
    with pytest.raises(DataError, match=r"another set \(seed 0, asked for 1\)"):
        synthesise(made, replace(SMALL, seed=1))
    assert digest(made) == before


def test_foreign_files_are_refused_and_kept(tmp_path: Path) -> None:
    recording = tmp_path / "fan/train/normal_id_00_00000000.wav"
    recording.parent.mkdir(parents=True)
    recording.write_bytes(b"the real data set")
    with pytest.raises(DataError, match="holds other files"):
        synthesise(tmp_path, SMALL)
    assert digest(tmp_path).keys() == {"fan/train/normal_id_00_00000000.wav"}
    with pytest.raises(DataError, match="is a file"):
        synthesise(recording, SMALL)


def test_a_damaged_document_is_refused(tmp_path: Path) -> None:
    (tmp_path / "synth.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        synthesise(tmp_path, SMALL)
    (tmp_path / "synth.json").write_text("[]")
    with pytest.raises(DataError, match="holds another set"):
        synthesise(tmp_path, SMALL)


def test_a_refused_write_is_a_storage_error_and_leaves_no_claim(made: Path, tmp_path: Path) -> None:
    document = (made / "synth.json").read_bytes()
    (tmp_path / "synth.partial.json").write_bytes(document)
    (tmp_path / "fan").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="could not be written"):
        synthesise(tmp_path, SMALL)
    assert not (tmp_path / "synth.json").exists()


def test_ctrl_c_ends_it_at_once_and_a_second_run_goes_on(tmp_path: Path) -> None:
    out, root = tmp_path / "set", Path(__file__).parents[2]
    code = (
        "from edgeflow.synth import SynthSpec, synthesise; "
        f"synthesise({str(out)!r}, SynthSpec(types=('fan',), machines=1, clips=2000))"
    )
    places = os.pathsep.join([str(root), str(root / "runtime")])
    env = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(list(out.rglob("*.wav"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in errors
    assert not (out / "synth.json").exists()
    assert json.loads((out / "synth.partial.json").read_text())["clips"] == 2000
    for path in out.rglob("*.wav"):
        assert soundfile.info(path).frames == 160_000


# what may be asked


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"types": ("fan", "lathe")}, r"^'lathe' is not a machine type: choose from fan, pump, "),
        ({"types": ()}, r"^types is \(\): expected a tuple of one or more of fan, "),
        ({"types": "fan"}, r"^types is 'fan': expected a tuple"),
        ({"types": ("fan", "fan")}, r"^types is 'fan,fan': each machine type may be named once"),
        ({"machines": 5}, r"^machines is 5: expected a whole number from 1 to 4\.$"),
        ({"machines": True}, r"^machines is True: expected a whole number"),
        ({"clips": 0}, r"^clips is 0: expected a whole number from 1 to 100000\.$"),
        ({"clips": 2.5}, r"^clips is 2\.5: expected a whole number"),
        ({"seconds": 0.5}, r"^seconds is 0\.5: expected a number from 1 to 600\.$"),
        ({"seconds": "10"}, r"^seconds is '10': expected a number"),
        ({"snr_db": float("nan")}, r"^snr_db is nan: expected a number from -30 to 60\.$"),
        ({"seed": -1}, r"^seed is -1: expected a whole number from 0 "),
    ],
)
def test_a_bad_spec_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SynthSpec(**options)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (("lathe", 0, 0), "'lathe' is not a machine type"),
        (("fan", 4, 0), "machine is 4: expected 0 to 3"),
        (("fan", 0, -1), "number is -1"),
    ],
)
def test_a_clip_that_no_set_has_is_refused(place: tuple[str, int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        render(SMALL, *place)
