"""The commands as a user meets them: help, good input, bad input, interruption."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from edgeflow.cli import COMMANDS, cli


def edgeflow(*arguments: object, **more: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], **more)


def fails(result: Result, *parts: str) -> None:
    """The command ended with one line of error and status 2."""
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    for part in parts:
        assert part in lines[0]


@pytest.fixture
def clips(sounds: Path) -> list[Path]:
    return sorted((sounds / "fan" / "test").iterdir())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_command_says(name: str):
    line = COMMANDS[name][1]
    assert line in " ".join(edgeflow("--help").output.split())
    described = " ".join(edgeflow(name, "--help").output.split())
    assert line in described


def test_help_loads_neither_numpy_nor_torch():
    code = (
        "import sys; from edgeflow.cli import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'torch', 'scipy', 'onnxruntime', 'soundfile', 'tqdm'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


FEW = ("--false-alarms", "0.4")
"""Of a threshold from two held-out clips, which can promise no less."""


def test_from_data_to_verdict(tmp_path: Path):
    data, runs, bundle = tmp_path / "data", tmp_path / "runs", tmp_path / "fan.edgeflow"
    options = ["--types", "fan", "--machines", 2, "--clips", 5, "--seconds", 2]
    assert edgeflow("data", "synth", data, *options).exit_code == 0
    assert "nothing looks wrong" in edgeflow("data", "info", data).output
    train = ["train", data, "--all", "--model", "maf", "--preset", "small", "--epochs", 2]
    first = edgeflow(*train, "-o", runs)
    assert first.exit_code == 0, first.output
    assert first.output.count(": trained, 2 epochs") == 2
    assert edgeflow(*train, "-o", runs).output.count("already trained") == 2
    run = runs / "fan_id_00"
    assert edgeflow("export", run, "-o", bundle, *FEW).exit_code == 0
    assert edgeflow("verify", bundle).output.endswith("verified\n")
    assert "fan_id_00" in edgeflow("inspect", bundle).output
    by_run = json.loads(edgeflow("evaluate", run, data, "--json", *FEW).stdout)
    by_bundle = json.loads(edgeflow("evaluate", bundle, data, "--json").stdout)
    limits = [document["machines"][0].pop("threshold") for document in (by_run, by_bundle)]
    assert limits[0] == pytest.approx(limits[1], rel=1e-5)
    assert by_run == by_bundle
    assert by_run["mean"].keys() < by_run["machines"][0].keys()
    assert edgeflow("export", runs, "-o", tmp_path / "all", *FEW).exit_code == 0
    both = edgeflow("evaluate", tmp_path / "all", data, "--csv").stdout
    assert [row["machine"] for row in csv.DictReader(io.StringIO(both))] == [
        "fan_id_00",
        "fan_id_02",
        "mean",
    ]
    clip = next((data / "fan" / "test").glob("normal_id_00_*"))
    scored = edgeflow("score", bundle, clip, "--threshold", 100)
    assert scored.exit_code == 0
    assert json.loads(scored.stdout)["verdict"] == "normal"


@pytest.mark.parametrize(("threshold", "status"), [(100, 0), (-100, 1)])
def test_status_tells_normal_from_anomaly(
    bundle_path: Path, clips: list[Path], threshold: float, status: int
):
    result = edgeflow("score", bundle_path, *clips, f"--threshold={threshold}")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == status
    assert [record["clip"] for record in records] == [str(clip) for clip in clips]
    assert {record["threshold"] for record in records} == {threshold}


def test_a_folder_is_searched(bundle_path: Path, sounds: Path):
    result = edgeflow("score", bundle_path, sounds / "fan" / "test", "--csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(rows) == 20
    assert {row["verdict"] for row in rows} <= {"normal", "anomalous"}


def on_a_terminal(*arguments: object, **environment: str) -> str:
    """What the command prints on a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "edgeflow", *map(str, arguments)]
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    done = subprocess.run(
        command, stdout=theirs, stderr=subprocess.DEVNULL, env=plain | environment
    )
    assert done.returncode in (0, 1)
    text = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(theirs)
    return text


def test_a_table_on_a_terminal(bundle_path: Path, clips: list[Path]):
    text = on_a_terminal("score", bundle_path, clips[0])
    assert text.startswith("verdict")
    assert str(clips[0]) in text


def test_colour_is_for_terminals_unless_it_is_not_wanted(
    bundle_path: Path, clips: list[Path], monkeypatch: pytest.MonkeyPatch
):
    table = ("score", bundle_path, clips[0], "--table")
    assert "\x1b[3" in on_a_terminal(*table)
    assert "\x1b[3" in on_a_terminal(*table, NO_COLOR="")  # no-color.org: empty is unset
    assert "\x1b" not in on_a_terminal(*table, NO_COLOR="1")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    assert "\x1b" not in edgeflow(*table).output
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[3" in edgeflow(*table).output
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in edgeflow(*table).output


def test_one_bad_file_is_reported_and_the_rest_are_scored(
    bundle_path: Path, clips: list[Path], tmp_path: Path
):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"")
    result = edgeflow("score", bundle_path, clips[0], bad, clips[1])
    fails(result, f"'{bad}' is empty")
    verdicts = [json.loads(line)["verdict"] for line in result.stdout.splitlines()]
    assert verdicts[1] == "unknown"
    assert "unknown" not in (verdicts[0], verdicts[2])


def noise(samples: int = 32000, channels: int = 1) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal((samples, channels))


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(32000), 16000, "is silent"),
        (np.clip(50 * noise(), -1, 1), 16000, "is clipped"),
        (noise(700), 16000, "has 0.04375 s; this monitor judges 2 s at a time"),
        (noise(), 8000, "is at 8000 Hz"),
        (noise(channels=2), 16000, "choose one with --channel 0 to 1"),
        (np.where(np.arange(32000) == 9, np.nan, noise()[:, 0]), 16000, "NaN"),
    ],
)
def test_bad_sounds(bundle_path: Path, tmp_path: Path, samples: np.ndarray, rate: int, message):
    path = tmp_path / "clip.wav"
    soundfile.write(path, samples, rate, subtype="FLOAT")
    fails(edgeflow("score", bundle_path, path), str(path), message)


def test_a_channel_can_be_chosen(bundle_path: Path, clips: list[Path], tmp_path: Path):
    sound, rate = soundfile.read(clips[0])
    soundfile.write(tmp_path / "two.wav", np.stack([sound * 0.1, sound], axis=1), rate)
    two = edgeflow("score", bundle_path, tmp_path / "two.wav", "--channel", 1)
    one = edgeflow("score", bundle_path, clips[0])
    assert json.loads(two.stdout)["score"] == pytest.approx(json.loads(one.stdout)["score"])


def pcm_of(path: Path) -> bytes:
    return soundfile.read(path, dtype="int16")[0].astype("<i2").tobytes()


def test_a_pipe_gives_a_verdict_a_clip(bundle_path: Path, clips: list[Path]):
    content = b"".join(pcm_of(clip) for clip in clips[:3])
    piped = edgeflow("score", bundle_path, "-", input=content)
    files = edgeflow("score", bundle_path, *clips[:3])
    scores = [json.loads(line)["score"] for line in piped.stdout.splitlines()]
    assert scores == pytest.approx(
        [json.loads(line)["score"] for line in files.stdout.splitlines()], abs=1e-6
    )
    wav = edgeflow("score", bundle_path, "-", input=clips[0].read_bytes())
    assert json.loads(wav.stdout)["score"] == pytest.approx(scores[0], abs=1e-6)


def test_bad_pipes(bundle_path: Path, clips: list[Path]):
    fails(edgeflow("score", bundle_path, "-", input=b""), "gave no sound")
    fails(edgeflow("score", bundle_path, "-", input=b"\0" * 64000), "silent")
    fails(edgeflow("score", bundle_path, "-", clips[0], input=b""), "cannot be heard together")
    fails(edgeflow("score", bundle_path, "-", "--map", "maps", input=b""), "cannot draw a pipe")


@pytest.mark.parametrize(
    "options",
    [("--rate", 16000), ("--channels", 1), ("--encoding", "s16"), ("--timeout", 2)],
    ids=lambda options: options[0],
)
def test_what_tells_of_a_pipe_is_refused_with_files(
    bundle_path: Path, clips: list[Path], options: tuple[str, object]
):
    refused = edgeflow("score", bundle_path, clips[0], *options)
    fails(refused, f"{options[0]}: only for sound from a pipe", "leave it out")
    assert refused.stdout == ""


def test_one_name_for_each_option_and_the_old_ones_still_work(sounds: Path, tmp_path: Path):
    machine = ["--type", "fan", "--id", "00", "--model", "maf", "--preset", "small", "--epochs", 1]
    for number, names in enumerate([("--ceiling", "--outlier-weight"), ("--c", "--k")]):
        run = tmp_path / str(number)
        options = [names[0], "-0.5", names[1], "0.25", "--loss", "eq5"]
        trained = edgeflow("train", sounds, *machine, *options, "-o", run)
        assert trained.exit_code == 0, trained.output
        loss = json.loads((run / "run.json").read_text())["recipe"]["loss"]
        assert (loss["ceiling"], loss["weight"]) == (-0.5, 0.25)
    words = edgeflow("train", "--help").output.split()
    assert "--ceiling" in words
    assert "--c" not in words


@pytest.mark.parametrize(
    ("options", "encoding"),
    [
        (["--audio-in"], "float32"),
        (["--audio-in", "--audio-encoding", "int16"], "int16"),
        (["--audio-in", "int16"], "int16"),  # as it was once
        (["--audio-in=int16"], "int16"),
        ([], None),
    ],
)
def test_the_graph_that_starts_at_the_samples_is_one_flag(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options, encoding
):
    from edgeflow_export import bundle_from_run as module
    from edgeflow_runtime.errors import ExportError

    asked = []

    def stop(run: object, path: object, options: module.ExportOptions, **_: object) -> None:
        asked.append(options.audio_in)
        raise ExportError("asked")

    monkeypatch.setattr(module, "bundle_from_run", stop)
    fails(edgeflow("export", *options, run_folder, "-o", tmp_path / "x.edgeflow"), "asked")
    fails(edgeflow("export", run_folder, "-o", tmp_path / "x.edgeflow", *options), "asked")
    assert asked == [encoding, encoding]


def test_an_encoding_without_its_graph_is_refused(run_folder: Path, tmp_path: Path):
    options = ["-o", tmp_path / "x.edgeflow", "--audio-encoding", "int16"]
    fails(edgeflow("export", run_folder, *options), "--audio-in: give both")


def test_the_three_commands_say_the_same_of_it():
    context = click.Context(cli)
    commands = (cli.get_command(context, name) for name in ("export", "build", "score"))
    flags = [p for c in commands if c for p in c.params if p.name == "audio_in"]
    assert len(flags) == 3
    assert len({(p.opts[0], p.is_flag, p.help) for p in flags if isinstance(p, click.Option)}) == 1


def test_maps_are_pictures(bundle_path: Path, clips: list[Path], tmp_path: Path):
    pytest.importorskip("matplotlib", reason="pip install 'edgeflow[plot]'")
    result = edgeflow("score", bundle_path, *clips[:2], "--map", tmp_path / "maps")
    assert result.exit_code in (0, 1), result.output
    pictures = sorted((tmp_path / "maps").iterdir())
    assert [picture.name for picture in pictures] == [f"{clip.stem}.png" for clip in clips[:2]]
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_threshold_that_tells_nothing_is_refused(bundle_path: Path, clips, value: str):
    fails(edgeflow("score", bundle_path, clips[0], "--threshold", value), "not a finite number")


def test_a_pipe_of_another_kind_is_one_error_for_all_of_it(bundle_path: Path):
    sound = (1000 * np.random.default_rng(0).standard_normal(400_000)).astype("<i2").tobytes()
    fails(edgeflow("score", bundle_path, "-", "--rate", 8000, input=sound), "is at 8000 Hz")
    fails(edgeflow("score", bundle_path, "-", "--channels", 2, input=sound), "has 2 channels")


def test_every_machine_that_can_be_done_is_done(sounds: Path, tmp_path: Path):
    data = tmp_path / "data"
    shutil.copytree(sounds, data)
    for clip in sorted((data / "fan" / "train").glob("*_id_02_*"))[2:]:
        clip.unlink()
    for clip in (data / "valve" / "test").glob("normal_id_02_*"):
        clip.unlink()
    options = ["--model", "maf", "--preset", "small", "--epochs", 1]
    trained = edgeflow("train", data, "--all", *options, "-o", tmp_path / "runs")
    assert trained.exit_code == 2
    said = trained.stderr.splitlines()  # what went wrong, and what the trained ones are warned of
    (fault,) = [line for line in said if line.startswith("Error: ")]
    assert "fan_id_02 has 2 training clip(s)" in fault
    runs = [f"{tmp_path / 'runs' / name}: " for name in ("fan_id_00", "valve_id_00", "valve_id_02")]
    assert all(line.startswith(tuple(runs)) for line in said if line != fault)
    assert trained.stdout.count(": trained") == 3
    measured = edgeflow("evaluate", tmp_path / "runs", data, "--json")
    fails(measured, "valve_id_02 has no normal test clips")
    assert len(json.loads(measured.stdout)["machines"]) == 2


def test_what_nobody_foresaw_is_no_verdict(
    bundle_path: Path, clips: list[Path], monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by chance")

    monkeypatch.setattr("edgeflow_runtime.scorer.Scorer.load", broken)
    fails(edgeflow("score", bundle_path, clips[0]), "unforeseen: ZeroDivisionError: by chance")


def test_bad_bundles(bundle_path: Path, clips: list[Path], tmp_path: Path):
    cut = tmp_path / "cut.edgeflow"
    cut.write_bytes(bundle_path.read_bytes()[:5000])
    for command in (["score", cut, clips[0]], ["inspect", cut], ["verify", cut]):
        fails(edgeflow(*command), f"'{cut}' is not a whole bundle")
    fails(edgeflow("score", tmp_path / "gone.edgeflow", clips[0]), "is missing")


def test_bad_data(tmp_path: Path, sounds: Path, run_folder: Path):
    out = ["-o", tmp_path / "run"]
    fails(edgeflow("--bogus"), "--bogus")
    fails(edgeflow("data", "info", tmp_path / "gone"), "is missing")
    fails(edgeflow("data", "synth", tmp_path / "x", "--types", "fans"), "fans")
    fails(edgeflow("data", "synth", sounds, "--seed", 9), str(sounds))
    fails(edgeflow("train", tmp_path, "--all", *out), "holds no clip")
    fails(edgeflow("train", sounds, *out), "--type and --id")
    fails(edgeflow("train", sounds, "--type", "pump", "--id", "00", *out), "it has fan, valve")
    fails(edgeflow("train", sounds, "--type", "fan", "--id", "77", *out), "it has 00, 02")
    fails(edgeflow("evaluate", tmp_path / "gone", sounds), "is missing")
    fails(edgeflow("export", tmp_path / "gone", *out), "is missing")
    assert not (tmp_path / "run").exists()
    for value in ("high", "nan", "inf"):
        ceiling = edgeflow("train", sounds, "--all", "--ceiling", value, *out)
        fails(ceiling, "neither 'auto' nor a finite")
    weight = edgeflow("train", sounds, "--all", "--outlier-weight", "nan", *out)
    fails(weight, "'nan' is not a finite number")
    fails(edgeflow("train", sounds, "--all", "--seed", -3, *out), "-3")
    (tmp_path / "file").write_text("in the way")
    one = ["--type", "fan", "--id", "00", "--model", "maf"]
    fails(edgeflow("train", sounds, *one, "-o", tmp_path / "file" / "run"), "cannot be made")


def test_a_full_disk_leaves_nothing_behind(run_folder: Path, tmp_path: Path):
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    command = [
        sys.executable,
        "-m",
        "edgeflow",
        "export",
        run_folder,
        "-o",
        tmp_path / "x.edgeflow",
        *FEW,
    ]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 2
    assert "could not be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_really_full_disk(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.strip()}")
    try:
        fails(edgeflow("data", "synth", disk / "d", "--types", "fan"), "No space left on device")
        assert not list(disk.rglob(".*"))
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("what", ["train", "score"])
def test_an_interruption_is_one_word_and_status_130(
    what: str, bundle_path: Path, sounds: Path, tmp_path: Path
):
    command = [sys.executable, "-m", "edgeflow"]
    if what == "train":
        command += ["train", sounds, "--type", "fan", "--id", "00", "-o", tmp_path / "run"]
        command += ["--model", "maf", "--epochs", "100000"]
    else:
        command += ["score", bundle_path, "-"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    ready = tmp_path / "run" / "run.json"
    while time.monotonic() < deadline and not (ready.exists() or what == "score"):
        time.sleep(0.05)
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors


def test_a_closed_pipe_is_no_traceback(bundle_path: Path, sounds: Path):
    copies = [str(sounds / "fan" / "test")] * 30
    command = [sys.executable, "-m", "edgeflow", "score", str(bundle_path), *copies]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 2


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_closed_outputs(bundle_path: Path, clips: list[Path], closed: str):
    line = f"{sys.executable} -m edgeflow score {bundle_path} {clips[0]} {clips[1]} {closed}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    if closed == ">&-":
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            "Error: standard output is closed: there is nowhere to print to"
        ]
    else:
        assert done.returncode in (0, 1)
        assert len([json.loads(line) for line in done.stdout.splitlines()]) == 2


@pytest.mark.parametrize("library", ["_multiarray_umath", "_safetensors", "onnxruntime_pybind11"])
def test_an_early_interruption_is_no_fault(bundle_path: Path, library: str):
    """Interrupted just as a library is mapped, wherever that one takes the interruption for."""
    command = [sys.executable, "-m", "edgeflow", "score", bundle_path, "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 30
        while library not in _maps(process.pid) and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert errors == b"interrupted\n"


def _maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def test_a_missing_extra_names_the_command_that_mends_it(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "torch", None)
    fails(
        edgeflow("train", sounds, "--all", "-o", tmp_path),
        "'torch' is not installed: run pip install -c ",
        "[train]'",
    )


def test_every_real_machine_can_be_read(mimii: Path):
    result = edgeflow("data", "info", mimii)
    assert "4 types, 16 machines, 240 sounds, 2400 s" in result.output


@pytest.mark.slow
def test_a_real_machine_from_recordings_to_verdict(mimii: Path, tmp_path: Path):
    run, bundle = tmp_path / "run", tmp_path / "valve.edgeflow"
    options = ["--type", "valve", "--id", "02", "--model", "maf", "--loss", "eq5"]
    trained = edgeflow("train", mimii, *options, "--preset", "small", "--epochs", 5, "-o", run)
    assert trained.exit_code == 0, trained.output
    assert edgeflow("export", run, "-o", bundle, *FEW).exit_code == 0
    assert edgeflow("verify", bundle).exit_code == 0
    clips = sorted((mimii / "valve" / "test").glob("*_id_02_*"))
    result = edgeflow("score", bundle, *clips)
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code in (0, 1)
    assert all(np.isfinite(record["score"]) for record in records)
    shutil.rmtree(run)


def test_a_backend_for_a_run_is_refused(run_folder: Path, sounds: Path):
    result = CliRunner().invoke(
        cli, ["evaluate", str(run_folder), str(sounds), "--backend", "tensorrt"]
    )
    assert result.exit_code == 2
    assert "--backend tensorrt runs bundles" in result.stderr
