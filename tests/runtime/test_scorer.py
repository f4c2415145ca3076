"""From clips to verdicts: right, in order, whatever the batches; faults are never normal."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from edgeflow.cli import cli
from edgeflow_runtime import Scorer
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.errors import AudioError, BackendError, ScoreError


@pytest.fixture
def scorer(bundle_path: Path) -> Scorer:
    return Scorer.load(bundle_path)


@pytest.fixture
def clips(sounds: Path) -> list[Path]:
    return sorted((sounds / "fan" / "test").iterdir())


def test_the_library_takes_samples_and_a_rate(scorer: Scorer, clips: list[Path]):
    samples, rate = soundfile.read(clips[0], dtype="float32")
    result = scorer.score(samples, rate)
    (from_file,) = scorer.score_files([clips[0]])
    assert result.score == pytest.approx(from_file.score, abs=1e-6)
    assert result.verdict in ("normal", "anomalous")
    assert (result.seconds, result.backend, result.device) == (1.0, "onnxruntime", "cpu")
    as_integers = scorer.score(soundfile.read(clips[0], dtype="int16")[0], rate)
    assert as_integers.score == pytest.approx(result.score, abs=1e-6)


def test_scores_are_those_of_the_golden_path(scorer: Scorer):
    golden = scorer.bundle.golden
    result = scorer.score(golden["samples"], 16000)
    assert result.score == pytest.approx(float(golden["nll"].mean()), abs=1e-5)


@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize("workers", [1, 3])
def test_batches_and_workers_do_not_change_scores_or_order(
    bundle_path: Path, clips: list[Path], batch: int, workers: int
):
    reference = [Scorer.load(bundle_path).score_files([clip]) for clip in clips]
    bundle = Bundle.load(bundle_path)
    backend = OnnxRuntimeBackend(bundle.onnx, workers)
    backend.batch = batch
    found = list(Scorer(bundle, backend).score_files(clips))
    assert [result.clip for result in found] == [str(clip) for clip in clips]
    for result, (alone,) in zip(found, map(list, reference), strict=True):
        assert result.score == pytest.approx(alone.score, abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child_scores_on(scorer: Scorer, clips: list[Path]):
    expected = [result.to_dict() for result in scorer.score_files(clips)]  # its threads are there
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def score() -> None:
        sender.send([result.to_dict() for result in scorer.score_files(clips)])
        scorer.close()

    child = multiprocessing.get_context("fork").Process(target=score)
    child.start()
    child.join(30)
    child.kill()
    assert (child.exitcode, receiver.poll()) == (0, True)
    assert receiver.recv() == expected
    assert [result.to_dict() for result in scorer.score_files(clips)] == expected


def test_a_closed_scorer_says_so(scorer: Scorer, clips: list[Path]):
    samples, rate = soundfile.read(clips[0], dtype="float32")
    begun = scorer.score_files(clips * 20)
    next(begun)
    scorer.close()
    scorer.close()
    for score in (
        lambda: scorer.score(samples, rate),
        lambda: list(scorer.score_files(clips)),
        lambda: list(begun),
    ):
        with pytest.raises(BackendError, match=r"^the monitor is closed$"):
            score()


def test_the_command_closes_what_it_opened(
    bundle_path: Path, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    closed, close = [], OnnxRuntimeBackend.close
    monkeypatch.setattr(OnnxRuntimeBackend, "close", lambda it: (closed.append(1), close(it))[1])
    for arguments in (clips, [clips[0], "gone.wav"], [tmp_path]):  # the last one holds no clip
        closed.clear()
        CliRunner().invoke(cli, ["score", str(bundle_path), *map(str, arguments)])
        assert closed == [1]


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32) * np.float32(0.1)


def pipe(bundle: Path, content: bytes, *options: str) -> Result:
    arguments = ["score", str(bundle), "-", "--audio-in", "--encoding", "f32", *options]
    return CliRunner().invoke(cli, arguments, input=content)


@pytest.mark.parametrize("options", [(), ("--every", "1")])
def test_a_pipe_is_cut_as_the_graph_that_starts_at_the_samples_wants(
    audio_bundle_path: Path, options: tuple[str, ...]
):
    found = pipe(audio_bundle_path, noise(3 * 16000 - 100).tobytes(), *options)
    assert (found.exit_code in (0, 1), found.stderr) == (True, "")
    names = [json.loads(line)["clip"] for line in found.stdout.splitlines()]
    assert names == ["-@0.0s", "-@1.0s"]  # the scrap at the end is none of its clips


def test_another_length_than_the_graphs_is_refused_at_once(audio_bundle_path: Path):
    found = pipe(audio_bundle_path, noise(3 * 16000).tobytes(), "--every", "3")
    assert (found.exit_code, found.stdout) == (2, "")
    (line,) = found.stderr.splitlines()
    assert "--every 3: the graph that starts at the samples takes clips of 1 s" in line


@pytest.mark.parametrize("more", [1, 127])
def test_less_than_a_hop_too_much_is_left_out(audio_bundle_path: Path, more: int):
    samples = noise(16000 + more)
    with Scorer.load(audio_bundle_path, audio_in=True) as scorer:
        expected = scorer.score(samples[:16000], 16000)
        result = scorer.score(samples, 16000)
        assert (result.score, result.stretches) == (expected.score, 1)
        with pytest.raises(AudioError, match="takes clips of 16000"):
            scorer.score(noise(15999), 16000)


def test_streamed_log_mel_scores_like_the_whole_clip(scorer: Scorer, clips: list[Path]):
    samples, rate = soundfile.read(clips[0], dtype="float32")
    assert scorer.logmel is not None
    stream = scorer.logmel.stream()
    frames = [stream.push(chunk) for chunk in np.array_split(samples, 13)]
    streamed = scorer.score_logmel(np.concatenate([*frames, stream.finish()]))
    assert streamed.score == pytest.approx(scorer.score(samples, rate).score, abs=1e-6)


@pytest.mark.parametrize("name", ["archive.npy", "zip.npy", "text.npy", "huge.npy"])
def test_arrays_that_are_none_are_unknown(scorer: Scorer, tmp_path: Path, name: str):
    path = tmp_path / name
    if name == "archive.npy":
        with path.open("wb") as file:
            np.savez(file, a=np.zeros(3))
    elif name == "huge.npy":
        np.save(path, np.zeros((2, 2), np.float32))
        path.write_bytes(path.read_bytes().replace(b"(2, 2), ", b"(9999999999, 99999), "))
    else:
        path.write_bytes(b"PK\x03\x04 and so on" if name == "zip.npy" else b"hello")
    (result,) = scorer.score_files([path])
    assert (result.verdict, str(path) in str(result.error)) == ("unknown", True)


def test_a_name_that_is_no_utf8_is_kept(scorer: Scorer, clips: list[Path], tmp_path: Path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.wav"))
    shutil.copy(clips[0], path)
    (result,) = scorer.score_files([path])
    assert result.verdict != "unknown"
    assert result.clip == str(path)
    assert os.fsencode(json.loads(json.dumps(result.to_dict()))["clip"]) == os.fsencode(path)


def test_the_channel_it_learned_from_is_the_one_it_hears(bundle_path: Path, clips: list[Path]):
    bundle = Bundle.load(bundle_path)
    features = dataclasses.replace(bundle.manifest.features, channel=1)
    manifest = dataclasses.replace(bundle.manifest, features=features)
    backend = OnnxRuntimeBackend(bundle.onnx)
    samples, rate = soundfile.read(clips[0], dtype="float32")
    both = np.stack([samples[::-1] * 0.1, samples], axis=1)
    second = Scorer(dataclasses.replace(bundle, manifest=manifest), backend)
    expected = pytest.approx(Scorer(bundle, backend).score(samples, rate).score)
    assert second.score(both, rate).score == expected
    assert second.score(samples, rate).score == expected  # a board's one microphone
    (from_file,) = second.score_files(clips[:1])
    assert from_file.score == expected
    with pytest.raises(AudioError, match="no channel 3"):
        Scorer(bundle, backend, channel=3).score(samples, rate)


def test_one_bad_clip_is_unknown_and_the_rest_are_scored(scorer: Scorer, clips: list[Path]):
    results = list(scorer.score_files([clips[0], "gone.wav", clips[1]]))
    assert [result.verdict == "unknown" for result in results] == [False, True, False]
    assert results[1].error == "'gone.wav' is missing"
    assert results[1].score is None


def test_the_threshold_decides_and_stands_in_the_result(bundle_path: Path, clips: list[Path]):
    low = Scorer.load(bundle_path, threshold=-100.0).score_files(clips[:1])
    high = Scorer.load(bundle_path, threshold=100.0).score_files(clips[:1])
    assert [(r.verdict, r.threshold) for r in (*low, *high)] == [
        ("anomalous", -100.0),
        ("normal", 100.0),
    ]


def test_maps_add_up_to_the_score(scorer: Scorer, clips: list[Path]):
    (plain,) = scorer.score_files(clips[:1])
    (result,) = scorer.score_files(clips[:1], maps=True)
    assert result.nll_map is not None
    assert result.nll_map.shape == (result.windows, 4, 32)
    assert result.nll_map.sum(axis=(1, 2)).mean() == pytest.approx(plain.score, abs=1e-5)
    assert result.score == pytest.approx(plain.score, abs=1e-5)


def test_a_score_that_is_not_finite_is_a_fault_never_normal(bundle_path: Path, clips: list[Path]):
    bundle = Bundle.load(bundle_path)
    broken = dataclasses.replace(
        bundle, frontend=bundle.frontend | {"scale": np.full(32, np.nan, np.float32)}
    )
    scorer = Scorer(broken, OnnxRuntimeBackend(bundle.onnx))
    (result,) = scorer.score_files(clips[:1])
    assert (result.verdict, result.score) == ("unknown", None)
    assert "no finite number" in str(result.error)
    samples, rate = soundfile.read(clips[0], dtype="float32")
    with pytest.raises(ScoreError, match="no finite number"):
        scorer.score(samples, rate)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(16000, np.float32), 16000, "silent"),
        (
            np.random.default_rng(0).standard_normal(300) * 0.1,
            16000,
            "'samples' has 0.01875 s; this monitor judges 1 s at a time",
        ),
        (np.random.default_rng(0).standard_normal(100) * 0.1, 16000, "too short: 100 of 129"),
        (np.full(16000, np.nan, np.float32), 16000, "NaN"),
        (np.random.default_rng(0).standard_normal((9000, 2)) * 0.1, 16000, "choose one"),
        (np.random.default_rng(0).standard_normal(9000) * 0.1, 8000, "8000 Hz"),
        (np.random.default_rng(0).standard_normal(9000) * 0.1, 0, "rate of 0 Hz"),
        (np.random.default_rng(0).standard_normal(9000) * 0.1, float("nan"), "rate of nan Hz"),
        (np.random.default_rng(0).standard_normal(9000) * 0.1, 1e300, r"rate of 1e\+300 Hz"),
        (np.zeros(9000, np.uint8), 16000, "of type uint8"),
        (np.zeros((2, 2, 2), np.float32), 16000, "has shape"),
    ],
)
def test_samples_that_cannot_be_judged(scorer: Scorer, samples, rate: int, message: str):
    with pytest.raises(AudioError, match=message):
        scorer.score(samples, rate)


def test_a_graph_that_is_none_is_one_error():
    with pytest.raises(BackendError, match="cannot load the flow"):
        OnnxRuntimeBackend(b"garbage")


def test_windows_of_another_shape_are_one_error(scorer: Scorer):
    with pytest.raises(BackendError, match="cannot run the flow"):
        scorer.backend.nll(np.zeros((1, 5, 32), np.float32))


def test_scoring_loads_neither_torch_nor_onnx(bundle_path: Path, clips: list[Path]):
    code = (
        "import sys\n"
        "from edgeflow.cli import cli\n"
        "try: cli(['score', *sys.argv[1:]])\n"
        "except SystemExit as end: assert end.code in (0, 1), end.code\n"
        "heavy = {'torch', 'onnx', 'onnxscript', 'sklearn', 'librosa', 'matplotlib', 'pandas'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, bundle_path, clips[0]], check=True)
