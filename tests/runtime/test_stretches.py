"""A verdict is for the learned length: what is longer is cut, what is shorter is unknown."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.cli import cli
from edgeflow.subjects import bundle_scores
from edgeflow_runtime import Scorer
from edgeflow_runtime.audio import Intake
from edgeflow_runtime.clip_reader import Clip, ClipReader
from edgeflow_runtime.errors import AudioError, ConfigError, DataError
from edgeflow_runtime.pipe import PcmFormat
from edgeflow_runtime.stretches import Stretches
from edgeflow_runtime.summary import Summary, summaries
from edgeflow_runtime.verdicts import ClipResult

RATE = 16000


@pytest.fixture
def scorer(bundle_path: Path) -> Scorer:
    return Scorer.load(bundle_path)


@pytest.fixture
def clips(sounds: Path) -> list[Path]:
    return sorted((sounds / "fan" / "test").iterdir())


@pytest.fixture
def day(clips: list[Path], tmp_path: Path) -> Path:
    """Four clips, one after the other."""
    path = tmp_path / "day.wav"
    soundfile.write(path, np.concatenate([soundfile.read(clip)[0] for clip in clips[:4]]), RATE)
    return path


def noise(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed).standard_normal(round(seconds * rate))
    return draw.astype(np.float32) * np.float32(0.1)


def written(folder: Path, name: str, samples: np.ndarray, rate: int = RATE) -> Path:
    soundfile.write(folder / name, samples, rate)
    return folder / name


def score(bundle: Path, *arguments: object, **more: object) -> Result:
    return CliRunner().invoke(cli, ["score", str(bundle), *map(str, arguments)], **more)


# Where a sound is cut


@given(
    seconds=st.floats(0.1, 30), rate=st.sampled_from([8000, 11025, 16000, 44100, 48000]),
    length=st.floats(0.001, 40),
)  # fmt: skip
def test_nothing_stays_unheard(seconds: float, rate: int, length: float):
    samples = max(1, round(length * seconds * rate))
    stretches = Stretches(ClipReader(128, Intake(16000)), seconds)
    starts, count = stretches.starts(samples, rate), stretches._count(rate)
    if samples <= 1.1 * seconds * rate:
        assert starts == [0]
        return
    assert starts[-1] + count == samples
    assert starts[0] == 0
    assert all(0 < after - before <= count for before, after in pairwise(starts))
    assert len(starts) == -(-samples // count)


@pytest.mark.parametrize(("seconds", "stretches"), [(0.9, 1), (1.1, 1), (1.101, 2), (3, 3)])
def test_a_tenth_more_or_less_is_one_clip(
    scorer: Scorer, tmp_path: Path, seconds: float, stretches: int
):
    path = written(tmp_path, "a.wav", noise(seconds))
    results = list(scorer.score_files([path]))
    assert [result.stretches for result in results] == [stretches] * stretches
    assert "unknown" not in {result.verdict for result in results}
    if stretches == 1:
        assert results[0].seconds == seconds


def test_each_stretch_scores_as_that_clip_alone(scorer: Scorer, clips: list[Path], day: Path):
    alone = [result.score for result in scorer.score_files(clips[:4])]
    results = list(scorer.score_files([clips[5], day, clips[5]]))
    assert [result.score for result in results[1:-1]] == pytest.approx(alone, abs=1e-6)
    assert [result.offset_seconds for result in results] == [0, 0, 1, 2, 3, 0]
    assert {result.clip for result in results[1:-1]} == {str(day)}
    assert [result.seconds for result in results] == [1] * 6
    assert results[2].label == f"{day} @ 1.0s"


@pytest.mark.parametrize(("rate", "channel"), [(16000, None), (44100, None), (48000, 1)])
def test_the_last_stretch_ends_with_the_sound(
    bundle_path: Path, tmp_path: Path, rate: int, channel: int | None
):
    sound = noise(2.5, rate)
    columns = np.stack([noise(2.5, rate, seed=1), sound], axis=1) if channel else sound
    path = tmp_path / "a.wav"
    soundfile.write(path, columns, rate, subtype="FLOAT")
    with Scorer.load(bundle_path, channel=channel) as scorer:
        results = list(scorer.score_files([path]))
        pieces = [columns[round(at * rate) :][:rate] for at in (0, 1, 1.5)]
        expected = [scorer.score(piece, rate).score for piece in pieces]
        worst = max(results, key=lambda result: result.score or 0)
        assert scorer.score(path).to_dict() == {
            **worst.to_dict(),
            "score": scorer.score(path).score,
        }
        of_samples = scorer.score(columns, rate, name="a")
    assert [result.offset_seconds for result in results] == [0, 1, 1.5]
    assert [result.score for result in results] == pytest.approx(expected, abs=1e-6)
    assert (of_samples.clip, of_samples.offset_seconds) == ("a", worst.offset_seconds)
    assert of_samples.score == pytest.approx(worst.score, abs=1e-6)


def test_the_graph_that_starts_at_the_samples_has_its_own_length(
    audio_bundle_path: Path, tmp_path: Path
):
    path = written(tmp_path, "a.wav", noise(2.5 + 1.05, 44100), 44100)
    with Scorer.load(audio_bundle_path, audio_in=True, allow_short=True) as scorer:
        results = list(scorer.score_files([path, written(tmp_path, "b.wav", noise(0.95))]))
    with Scorer.load(audio_bundle_path) as scorer:
        expected = [result.score for result in scorer.score_files([path])]
    *stretches, short = results
    assert [result.offset_seconds for result in stretches] == [0, 1, 2, 2.55]
    assert [result.score for result in stretches] == pytest.approx(expected, abs=1e-3)
    assert "takes clips of 16000" in str(short.error)


# Other lengths


def test_a_short_sound_is_unknown(scorer: Scorer, clips: list[Path], tmp_path: Path):
    path = written(tmp_path, "short.wav", noise(0.3))
    before, result, after = scorer.score_files([clips[0], path, clips[1]])
    assert (result.verdict, result.score) == ("unknown", None)
    assert "unknown" not in (before.verdict, after.verdict)
    assert result.error == (
        f"'{path}' has 0.3 s; this monitor judges 1 s at a time, and its threshold does not hold "
        "for less: --allow-short judges it all the same"
    )
    with pytest.raises(AudioError, match="--allow-short"):
        scorer.score(path)
    with pytest.raises(AudioError, match="--allow-short"):
        scorer.score(noise(0.3), RATE)


def test_short_sounds_are_judged_under_allow_short_with_one_warning(
    bundle_path: Path, tmp_path: Path
):
    paths = [written(tmp_path, f"{k}.wav", noise(0.3, seed=k)) for k in range(3)]
    scorer = Scorer.load(bundle_path, allow_short=True)
    with pytest.warns(RuntimeWarning, match="has 0.3 s; this monitor judges 1 s") as warnings:
        results = list(scorer.score_files(paths))
    assert len(warnings) == 1
    assert {result.error for result in results} == {None}
    assert {result.seconds for result in results} == {0.3}
    assert scorer.score(noise(0.3), RATE).score == pytest.approx(results[0].score, abs=1e-3)
    found = score(bundle_path, *paths, "--allow-short", "--threshold=100")
    (line,) = found.stderr.splitlines()
    assert (found.exit_code, line[-50:]) == (
        0,
        "it is judged all the same, as other short ones are",
    )


def test_another_length_is_warned_of(bundle_path: Path, day: Path):
    with pytest.warns(RuntimeWarning, match="threshold is for 1 s; scores of 2 s do not compare"):
        scorer = Scorer.load(bundle_path, every=2)
    assert [result.offset_seconds for result in scorer.score_files([day])] == [0, 2]
    assert scorer.clip_seconds == 2
    found = score(bundle_path, day, "--every", 2)
    assert len(found.stdout.splitlines()) == 2
    assert found.stderr.startswith("this monitor's threshold is for 1 s; scores of 2 s")
    assert Scorer.load(bundle_path, every=1.05).clip_seconds == 1.05


@pytest.mark.parametrize("every", [0, -1, float("nan"), float("inf"), "1"])
def test_lengths_that_are_none(bundle_path: Path, every: float):
    with pytest.raises(ConfigError, match=r"stretches of .* seconds are none"):
        Scorer.load(bundle_path, every=every)


@pytest.mark.filterwarnings("ignore:.*has 0.3 s:RuntimeWarning")
@pytest.mark.parametrize(("allow_short", "heard"), [(False, [0, 1]), (True, [0, 1, 2])])
@pytest.mark.parametrize("left", [0.3, 0.95])
def test_what_is_left_of_a_pipe(
    bundle_path: Path, allow_short: bool, heard: list[float], left: float
):
    content = (noise(2 + left) * 32768).astype("<i2").tobytes()
    with Scorer.load(bundle_path, allow_short=allow_short) as scorer:
        results = list(scorer.score_pipe(io.BytesIO(content), PcmFormat(RATE)))
    assert [result.offset_seconds for result in results] == (heard if left < 0.9 else [0, 1, 2])
    assert {result.error for result in results} == {None}


def test_a_pipe_that_is_too_short_is_not_silently_dropped(scorer: Scorer):
    content = (noise(0.3) * 32768).astype("<i2").tobytes()
    (result,) = scorer.score_pipe(io.BytesIO(content), PcmFormat(RATE))
    assert (result.verdict, "--allow-short" in str(result.error)) == ("unknown", True)


# What is wrong with a part


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Four seconds: quiet noise, silence, loud noise, quiet noise."""
    parts = [noise(1) / 100, np.zeros(RATE, np.float32), noise(1) * 3, noise(1) / 100]
    return written(tmp_path, "mixed.wav", np.concatenate(parts))


def between(scorer: Scorer, path: Path) -> float:
    """A threshold above the score of the quiet parts and below that of the loud one."""
    scores = [result.score for result in scorer.score_files([path])]
    assert scores[1] is None
    low, high = sorted([scores[0] or 0, scores[2] or 0])
    return (low + high) / 2


def test_neither_hides_the_other(bundle_path: Path, scorer: Scorer, mixed: Path):
    alarm = Scorer.load(bundle_path, threshold=between(scorer, mixed))
    results = list(alarm.score_files([mixed]))
    verdicts = [result.verdict for result in results]
    assert verdicts.count("anomalous") in (1, 2)
    assert verdicts[1] == "unknown"
    assert results[1].error == f"'{mixed} @ 1.0s' is silent: is the microphone connected?"
    worst = alarm.score(mixed)
    assert worst.verdict == "anomalous"
    assert worst.score == pytest.approx(max(r.score for r in results if r.score), abs=1e-6)
    with pytest.raises(AudioError, match=r"mixed.wav @ 1.0s' is silent"):
        Scorer.load(bundle_path, threshold=100).score(mixed)


def test_what_is_wrong_late_in_a_file_spoils_its_own_stretch(
    scorer: Scorer, tmp_path: Path, clips: list[Path]
):
    late = noise(4)
    late[3 * RATE + 12_000] = np.nan
    path = tmp_path / "late.wav"
    soundfile.write(path, late, RATE, subtype="FLOAT")
    *results, after = scorer.score_files([path, clips[0]])
    assert [result.verdict == "unknown" for result in results] == [False, False, False, True]
    assert "late.wav @ 3.0s' " in str(results[3].error)
    assert "first at 12000" in str(results[3].error)
    assert after.error is None


def test_a_damaged_file_is_heard_up_to_there(scorer: Scorer, tmp_path: Path, clips: list[Path]):
    path = written(tmp_path, "cut.flac", noise(8))
    path.write_bytes(path.read_bytes()[:-60_000])
    results = list(scorer.score_files([path, clips[0]]))
    *heard, damaged, after = results
    assert heard
    assert {result.error for result in (*heard, after)} == {None}
    assert (damaged.verdict, damaged.offset_seconds) == ("unknown", len(heard))
    assert "cut.flac' is " in str(damaged.error)
    assert f"nothing of it from {len(heard)}.0 s on was heard" in str(damaged.error)
    first, _ = summaries(results)
    assert (first.stretches, len(first.unknown), first.clip) == (8, 1, str(path))


def test_a_long_file_without_the_channel_is_one_fault(bundle_path: Path, tmp_path: Path):
    path = written(tmp_path, "wide.wav", noise(24).reshape(-1, 12))
    with Scorer.load(bundle_path) as scorer:
        (result,) = scorer.score_files([path])
    assert "has 12 channels" in str(result.error)


# What the command says


def test_the_command_sums_up(bundle_path: Path, scorer: Scorer, mixed: Path, clips: list[Path]):
    threshold = between(scorer, mixed)
    for style in ("--json", "--csv", "--table"):
        found = score(bundle_path, mixed, clips[0], style, f"--threshold={threshold}")
        error, line = found.stderr.splitlines()
        assert error.startswith(f"Error: '{mixed} @ 1.0s' is silent")
        assert line.startswith(f"'{mixed}': anomalous: ")
        assert " of 4 stretches are anomalous, 1 unknown (at 1 s); the worst scored " in line
        assert found.exit_code == 2
        if style == "--table":
            assert f"{mixed} @ 2.0s" in found.stdout
        if style == "--json":
            records = [json.loads(text) for text in found.stdout.splitlines()]
            assert [record["offset_seconds"] for record in records] == [0, 1, 2, 3, 0]
            assert {record["clip"] for record in records[:4]} == {str(mixed)}


@pytest.mark.parametrize(("threshold", "status"), [(-100, 1), (100, 0)])
def test_the_exit_status(bundle_path: Path, day: Path, threshold: float, status: int):
    found = score(bundle_path, day, f"--threshold={threshold}")
    verdict = "anomalous: 4" if status else "normal: 0"
    assert found.exit_code == status
    assert found.stderr.startswith(f"'{day}': {verdict} of 4 stretches are anomalous, 0 unknown; ")


def test_each_stretch_has_a_picture(bundle_path: Path, day: Path, clips, tmp_path: Path):
    pytest.importorskip("matplotlib", reason="pip install 'edgeflow[plot]'")
    found = score(bundle_path, day, clips[0], "--map", tmp_path / "maps")
    assert found.exit_code in (0, 1), found.stderr
    names = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert names == sorted([*(f"day@{k}.0s.png" for k in range(4)), f"{clips[0].stem}.png"])


def test_an_evaluation_counts_the_worst_stretch(scorer: Scorer, clips, day: Path, mixed: Path):
    worst = max(result.score or 0 for result in scorer.score_files([day]))
    scores = bundle_scores(scorer, [clips[0], day, day, clips[1]])
    assert scores[1:3] == pytest.approx([worst] * 2, abs=1e-6)
    assert len(scores) == 4
    with pytest.raises(DataError, match=r"mixed.wav @ 1.0s' is silent"):
        bundle_scores(scorer, [mixed])


def test_many_unknown_places_are_not_all_named(scorer: Scorer):
    summary = Summary("a.wav", 9)
    for place in range(9):
        clip = Clip("a.wav", 1.0, error="gone", offset_seconds=place, stretches=9)
        summary.add(scorer.judge(clip, None))
    assert str(summary) == (
        "'a.wav': unknown: 0 of 9 stretches are anomalous, 9 unknown "
        "(at 0 s, 1 s, 2 s, 3 s, 4 s, ...)"
    )


def test_one_file_twice_is_two_sounds(scorer: Scorer, day: Path):
    results: list[ClipResult] = list(scorer.score_files([day, day]))
    assert [summary.stretches for summary in summaries(results)] == [4, 4]
