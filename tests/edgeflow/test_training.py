"""Training: resumable to the same flow, bounded, stopped by name, once pre-trained."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeflow.dataset import Dataset, Machine
from edgeflow.features import FeatureStore, cache_root
from edgeflow.losses import LossSpec
from edgeflow.models import preset
from edgeflow.models.linear import LinearFlow
from edgeflow.models.model import Model
from edgeflow.models.spec import ModelSettings, Schedule
from edgeflow.training import loop
from edgeflow.training.checkpoint import (
    CHECKPOINT,
    checkpoint_epoch,
    load_best,
    save_checkpoint,
)
from edgeflow.training.closed_form import Lent
from edgeflow.training.closed_form import rows_of as linear_rows
from edgeflow.training.corpus import Corpora, Corpus, load_corpus
from edgeflow.training.criterion import clip_scores, mean_nll, separation
from edgeflow.training.ending import warnings
from edgeflow.training.recipe import Recipe
from edgeflow.training.run import TrainedRun
from edgeflow.training.splits import Split, split_clips
from edgeflow.training.start import start_of
from edgeflow.training.train import train, train_run
from edgeflow_runtime.errors import ConfigError, DataError, TrainingError
from edgeflow_runtime.manifest import Features, MachineId
from edgeflow_runtime.progress import Progress
from edgeflow_runtime.views import WindowSpec

CPU = torch.device("cpu")


@pytest.fixture
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every epoch, however short."""
    monkeypatch.setattr(loop, "SAVE_INTERVAL_S", 0.0)


def with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    schedule = dataclasses.replace(recipe.settings.schedule, epochs=epochs)
    settings = dataclasses.replace(recipe.settings, schedule=schedule)
    return dataclasses.replace(recipe, settings=settings)


def with_loss(recipe: Recipe, kind: str, **more: float) -> Recipe:
    return dataclasses.replace(recipe, loss=LossSpec(kind, **more))


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(row) for row in (folder / "log.jsonl").read_text().splitlines()]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return TrainedRun.load(folder).model.state_dict()


def assert_same_run(a: Path, b: Path) -> None:
    first, second = weights_of(a), weights_of(b)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=0)
    timeless = [[{**row, "seconds": 0} for row in rows_of(folder)] for folder in (a, b)]
    assert timeless[0] == timeless[1]


def test_training_lowers_the_nll(run_folder: Path):
    rows = rows_of(run_folder)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["target_nll"] < rows[0]["target_nll"]
    assert all(np.isfinite(row["heldout_nll"]) for row in rows)


@pytest.mark.parametrize("kind", ["nll", "eq5"])
def test_interrupted_and_resumed_equals_unbroken(
    recipe: Recipe, tmp_path: Path, kind: str, every_epoch: None, monkeypatch
):
    recipe = with_loss(recipe, kind)
    train_run(recipe, tmp_path / "unbroken", CPU)
    saved = loop.save_checkpoint

    def save_then_stop(folder: Path, epoch: int, *rest: object) -> None:
        saved(folder, epoch, *rest)
        if epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        train_run(recipe, tmp_path / "broken", CPU)
    assert checkpoint_epoch(tmp_path / "broken") == 1
    monkeypatch.setattr(loop, "save_checkpoint", saved)
    assert train_run(recipe, tmp_path / "broken", CPU)
    assert_same_run(tmp_path / "unbroken", tmp_path / "broken")


def test_killed_and_resumed_equals_unbroken(recipe: Recipe, tmp_path: Path):
    recipe = with_epochs(with_loss(recipe, "eq4"), 12)
    train_run(recipe, tmp_path / "unbroken", CPU)
    code = (
        "import json, sys, time; from pathlib import Path; import torch\n"
        "from edgeflow.training import loop; from edgeflow.training.train import *\n"
        "loop.SAVE_INTERVAL_S = 0.0\n"
        "whole = loop.mean_nll\n"
        "loop.mean_nll = lambda *a: (time.sleep(0.2), whole(*a))[1]\n"
        "recipe = Recipe.from_dict(json.loads(sys.argv[1]))\n"
        "train_run(recipe, Path(sys.argv[2]), torch.device('cpu'))\n"
    )
    broken = tmp_path / "broken"
    arguments = [sys.executable, "-c", code, json.dumps(recipe.to_dict()), str(broken)]
    process = subprocess.Popen(arguments, env=os.environ)
    while not (broken / CHECKPOINT).exists() or checkpoint_epoch(broken) < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 3 <= checkpoint_epoch(broken) < 12
    train_run(recipe, broken, CPU)
    assert_same_run(tmp_path / "unbroken", broken)


def test_a_finished_run_is_left_alone_and_another_is_refused(recipe: Recipe, run_folder: Path):
    before = (run_folder / CHECKPOINT).stat().st_mtime_ns
    assert not train_run(recipe, run_folder, CPU)
    assert (run_folder / CHECKPOINT).stat().st_mtime_ns == before
    with pytest.raises(TrainingError, match=r"other settings \(seed is 0, not 1\)"):
        train_run(dataclasses.replace(recipe, seed=1), run_folder, CPU)


def test_an_unfinished_and_a_damaged_run_are_named(
    recipe: Recipe, run_folder: Path, tmp_path: Path
):
    copy = tmp_path / "copy"
    shutil.copytree(run_folder, copy)
    (copy / CHECKPOINT).write_bytes((copy / CHECKPOINT).read_bytes()[:-100])
    with pytest.raises(TrainingError, match="cannot be used"):
        TrainedRun.load(copy)
    content = bytearray((run_folder / CHECKPOINT).read_bytes())
    content[-1000] ^= 1
    (copy / CHECKPOINT).write_bytes(content)
    with pytest.raises(TrainingError, match="its hash differs"):
        TrainedRun.load(copy)
    (copy / CHECKPOINT).write_bytes((run_folder / CHECKPOINT).read_bytes())
    (copy / "standard.safetensors").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="delete the folder to train anew"):
        train_run(recipe, copy, CPU)
    (copy / CHECKPOINT).unlink()
    with pytest.raises(TrainingError, match="0 of 3 epochs"):
        TrainedRun.load(copy)
    with pytest.raises(TrainingError, match=r"holds no run: it has no run\.json"):
        TrainedRun.load(tmp_path)


def test_a_loss_that_is_not_finite_names_epoch_and_batch_and_keeps_the_checkpoint(
    recipe: Recipe, tmp_path: Path, every_epoch: None, monkeypatch
):
    steps = 0
    step = loop._step

    def breaking(*args: object) -> torch.Tensor:
        nonlocal steps
        steps += 1
        return step(*args) * (float("nan") if steps == 6 else 1.0)

    monkeypatch.setattr(loop, "_step", breaking)
    with pytest.raises(TrainingError, match=r"not finite in epoch 2, batch 3 of 3"):
        train_run(recipe, tmp_path, CPU)
    assert checkpoint_epoch(tmp_path) == 1


def test_a_flow_broken_by_the_last_step_is_not_kept(
    recipe: Recipe, tmp_path: Path, every_epoch: None, monkeypatch: pytest.MonkeyPatch
):
    step, steps = loop._step, 0

    def breaking(flow: Model, *rest: object) -> torch.Tensor:
        nonlocal steps
        steps += 1
        seen = step(flow, *rest)
        if steps == 6:  # the last of epoch 2: its own loss was still finite
            next(flow.parameters()).data.fill_(float("nan"))
        return seen

    monkeypatch.setattr(loop, "_step", breaking)
    with pytest.raises(TrainingError, match="not finite after epoch 2's last batch"):
        train_run(recipe, tmp_path, CPU)
    assert checkpoint_epoch(tmp_path) == 1


def test_going_on_with_other_clips_is_refused(
    recipe: Recipe, sounds: Path, tmp_path: Path, every_epoch: None, monkeypatch
):
    data = tmp_path / "data"
    shutil.copytree(sounds, data)
    recipe = dataclasses.replace(recipe, data=str(data))
    saved = loop.save_checkpoint

    def save_then_stop(*arguments: object) -> None:
        saved(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        train_run(recipe, tmp_path / "run", CPU)
    clips = sorted((data / "fan" / "train").iterdir())
    shutil.copy(clips[0], clips[1])
    with pytest.raises(TrainingError, match="was begun on other clips"):
        train_run(recipe, tmp_path / "run", CPU)


def test_a_damaged_pretrained_flow_is_made_anew(recipe: Recipe, tmp_path: Path):
    recipe = dataclasses.replace(with_loss(recipe, "eq5"), seed=12)
    before = set(cache_root().glob("pretrained/*"))
    train_run(recipe, tmp_path / "a", CPU)
    (made,) = set(cache_root().glob("pretrained/*")) - before
    (made / CHECKPOINT).write_bytes(b"damaged")
    train_run(recipe, tmp_path / "b", CPU)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    (made / "ceiling.json").write_text("damaged")
    content = bytearray((made / CHECKPOINT).read_bytes())
    content[-100] ^= 1
    (made / CHECKPOINT).write_bytes(content)
    train_run(recipe, tmp_path / "c", CPU)
    assert_same_run(tmp_path / "a", tmp_path / "c")


def test_one_pretraining_serves_every_machine_and_loss(recipe: Recipe, tmp_path: Path):
    recipe = dataclasses.replace(with_loss(recipe, "eq5"), seed=11)
    before = set(cache_root().glob("pretrained/*"))
    train_run(recipe, tmp_path / "a", CPU)
    (made,) = set(cache_root().glob("pretrained/*")) - before
    times = {path: path.stat().st_mtime_ns for path in made.iterdir()}
    other = dataclasses.replace(with_loss(recipe, "eq4"), machine=MachineId("fan", "02"))
    train_run(other, tmp_path / "b", CPU)
    assert {path: path.stat().st_mtime_ns for path in made.iterdir()} == times
    ceilings = [TrainedRun.load(tmp_path / name).record.ceiling for name in "ab"]
    assert ceilings[0] == ceilings[1] is not None
    for row in rows_of(tmp_path / "a"):
        assert 0 <= row["outliers_passing_share"] <= 1


def test_a_ceiling_can_be_given(recipe: Recipe, tmp_path: Path):
    train_run(with_loss(recipe, "eq4", ceiling=-50.0), tmp_path, CPU)
    assert TrainedRun.load(tmp_path).record.ceiling == -50.0
    assert {row["outliers_passing"] for row in rows_of(tmp_path)} == {0}


def test_target_nll_stays_bounded_against_outliers(recipe: Recipe, tmp_path: Path):
    train_run(with_epochs(with_loss(recipe, "eq5"), 30), tmp_path, CPU)
    rows = rows_of(tmp_path)
    assert max(row["target_nll"] for row in rows) < rows[0]["target_nll"] + 0.5
    assert rows[-1]["target_nll"] < rows[-1]["outlier_nll"]


def test_a_glow_trains_too(recipe: Recipe, glow_settings: ModelSettings, tmp_path: Path):
    train_run(dataclasses.replace(recipe, settings=glow_settings), tmp_path, CPU)
    rows = rows_of(tmp_path)
    assert rows[-1]["target_nll"] < rows[0]["target_nll"]


def test_a_machine_alone_has_no_outliers(recipe: Recipe, sounds: Path, tmp_path: Path):
    for split in ("train", "test"):
        shutil.copytree(sounds / "fan" / split, tmp_path / "data" / "fan" / split)
        for path in (tmp_path / "data" / "fan" / split).glob("*_id_02_*"):
            path.unlink()
    alone = dataclasses.replace(with_loss(recipe, "eq5"), data=str(tmp_path / "data"))
    with pytest.raises(DataError, match="only machine of its type, so it has no outliers"):
        train_run(alone, tmp_path / "run", CPU)
    assert not (tmp_path / "run").exists()


def test_a_machine_without_training_clips_is_named(recipe: Recipe, sounds: Path, tmp_path: Path):
    shutil.copytree(sounds / "fan" / "test", tmp_path / "data" / "fan" / "test")
    with pytest.raises(DataError, match=r"fan_id_00 has 0 training clip\(s\); at least 3"):
        train_run(dataclasses.replace(recipe, data=str(tmp_path / "data")), tmp_path / "r", CPU)


def test_heldout_clips_are_never_learned_from(recipe: Recipe, run_folder: Path):
    record = TrainedRun.load(run_folder).record
    assert len(record.heldout) == 2
    assert not set(record.heldout) & set(record.learn)
    machine = Dataset.scan(recipe.data).machine("fan", "00")
    split = split_clips(machine, recipe.holdout, recipe.seed)
    assert [path.name for path in split.heldout] == [Path(name).name for name in record.heldout]


def tiny_corpus(features: np.ndarray, window: WindowSpec) -> Corpus:
    path = Path("clip")
    split = Split(Machine(MachineId("fan", "00"), Path(), [path]), [path], [])
    return Corpus([split], {path: features}, window, Features(6, 0, None, None), CPU, seed=0)


def test_windows_are_gathered_from_the_right_frames():
    features = np.random.default_rng(0).normal(5, 3, (20, 6)).astype(np.float32)
    corpus = tiny_corpus(features, WindowSpec(4, 3))
    starts = corpus.learn_starts("fan_id_00")
    windows = corpus.windows(starts).numpy() * corpus.view.scale + corpus.view.mean
    expected = WindowSpec(4, 3).cut(features)
    np.testing.assert_allclose(windows, expected, atol=1e-5)


def test_a_band_that_never_varies_is_noise_in_training_and_zero_when_scoring():
    features = np.random.default_rng(0).normal(5, 3, (500, 6)).astype(np.float32)
    features[:, 2] = -156.5
    corpus = tiny_corpus(features, WindowSpec(4, 4))
    assert abs(float(corpus.table[:, 2].std()) - 1) < 0.1
    features[:, 2] += np.linspace(0, 40, len(features))  # something is heard in it, now
    assert abs(corpus.view.standardise(features)[:, 2]).max() < 1e-3


def test_batches_depend_on_seed_and_epoch_alone(recipe: Recipe):
    corpus = load_corpus(Dataset.scan(recipe.data), recipe, CPU)
    task = loop.Task(
        Path(), "", recipe.settings.schedule, recipe.loss, None,
        corpus.learn_starts("fan_id_00"), corpus.outlier_starts("fan_id_00"), None, seed=3,
    )  # fmt: skip
    first, again, later = (loop.batch_starts(task, epoch) for epoch in (1, 1, 2))
    assert all(
        torch.equal(a, b) and torch.equal(x, y) for (a, x), (b, y) in zip(first, again, strict=True)
    )
    assert not torch.equal(first[0][0], later[0][0])
    seen = torch.cat([target for target, _ in first])
    assert torch.equal(seen.sort().values, task.target.sort().values)


@pytest.mark.parametrize(
    "bad", [{"epochs": 0}, {"batch": 1}, {"learning_rate": 0.0}, {"optimiser": "sgd"}]
)
def test_senseless_schedules_are_refused(bad: dict):
    good = {"epochs": 1, "batch": 2, "optimiser": "adam", "learning_rate": 1e-3}
    with pytest.raises(ConfigError):
        Schedule(**(good | bad))
    with pytest.raises(ConfigError, match="unknown preset 'huge'"):
        preset("maf", "huge")


def test_a_types_corpus_is_read_once_for_all_of_its_machines(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read: list[Path] = []
    right = FeatureStore.read
    monkeypatch.setattr(
        FeatureStore, "read", lambda it, path: (read.append(path), right(it, path))[1]
    )
    data = Dataset.scan(recipe.data)
    settings = {"model": "maf", "preset": "small", "epochs": 1}
    corpora = Corpora()
    runs = [
        train(machine, tmp_path / machine.id.name, **settings, corpora=corpora)
        for machine in data.of_type("fan")
    ]
    assert len(runs) == 2
    assert len(read) == len(set(read)) == 12
    alone = train(data.machine("fan", "02"), tmp_path / "alone", **settings)
    assert len(read) == 24
    for name, weight in runs[1].model.state_dict().items():
        torch.testing.assert_close(alone.model.state_dict()[name], weight, rtol=0, atol=0)


PRETRAIN = """
import sys, time
from edgeflow.training import pretraining
from edgeflow.dataset import Dataset
from edgeflow.training.train import train
right = pretraining.train
def slow(*task):
    print("pre-training", flush=True)
    time.sleep(float(sys.argv[3]))
    right(*task)
pretraining.train = slow
machine = Dataset.scan(sys.argv[1]).machine("fan", sys.argv[4])
train(machine, sys.argv[2], model="maf", loss="eq5", preset="small", epochs=1)
"""


def pretrain(recipe: Recipe, out: Path, cache: Path, seconds: float, machine: str):
    command = [sys.executable, "-c", PRETRAIN, recipe.data, str(out), str(seconds), machine]
    return subprocess.Popen(
        command,
        env={**os.environ, "EDGEFLOW_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_that_need_a_pretraining_make_it_once(recipe: Recipe, tmp_path: Path):
    first = pretrain(recipe, tmp_path / "a", tmp_path / "cache", 3, "00")
    assert first.stdout.readline() == "pre-training\n"
    second = pretrain(recipe, tmp_path / "b", tmp_path / "cache", 0, "02")
    said, waited = second.communicate(timeout=60)
    assert (second.returncode, said) == (0, "")
    assert "waiting for another process" in waited
    assert first.communicate(timeout=60)[0] == ""
    assert first.returncode == 0


def test_a_pretraining_whose_maker_was_killed_is_made_by_the_next(recipe: Recipe, tmp_path: Path):
    first = pretrain(recipe, tmp_path / "a", tmp_path / "cache", 60, "00")
    assert first.stdout.readline() == "pre-training\n"
    first.kill()
    first.communicate()
    second = pretrain(recipe, tmp_path / "b", tmp_path / "cache", 0, "02")
    said, _ = second.communicate(timeout=60)
    assert (second.returncode, said) == (0, "pre-training\n")


def as_version_1(document: dict) -> dict:
    """A record with the names of the first version."""
    recipe = document.pop("recipe")
    settings = recipe["settings"]
    flow = settings.pop("model")
    settings |= {"flow": {"model": flow.pop("name"), **flow}, "window": settings.pop("view")}
    recipe["monitor"] = recipe.pop("machine")
    return document | {"run_version": 1, "config": recipe}


@pytest.fixture(scope="session")
def linear_start(recipe: Recipe) -> Recipe:
    """The training of a small MAF on the linear flow, which would do without any clip held out."""
    settings = preset("maf", "small", start="linear", epochs=4)
    return dataclasses.replace(recipe, settings=settings)


def test_the_record_names_three_sets_that_share_no_clip(recipe: Recipe, run_folder: Path):
    record = TrainedRun.load(run_folder).record
    sets = [record.learn, record.validation, record.heldout]
    assert [len(names) for names in sets] == [3, 1, 2]
    every = [name for names in sets for name in names]
    machine = Dataset.scan(recipe.data).machine("fan", "00")
    assert sorted(Path(name).name for name in every) == sorted(p.name for p in machine.train)


@pytest.mark.parametrize(
    ("clips", "learn", "validation", "heldout"),
    [(3, 1, 0, 2), (4, 1, 1, 2), (7, 4, 1, 2), (20, 16, 2, 2), (100, 80, 10, 10)],
)
def test_clips_are_divided_from_four_up(clips: int, learn: int, validation: int, heldout: int):
    paths = [Path(f"{k}.wav") for k in range(clips)]
    machine = Machine(MachineId("fan", "00"), Path(), paths)
    split = split_clips(machine, 0.1, 0, 0.1)
    assert (len(split.learn), len(split.validation), len(split.heldout)) == (
        learn, validation, heldout,
    )  # fmt: skip
    assert sorted(split.learn + split.unlearned) == sorted(paths)
    before = split_clips(machine, 0.1, 0)  # as it was without a validation split
    assert before.heldout == split.heldout


def judged(criteria: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every epoch's criterion what is given."""
    given = iter(criteria)
    monkeypatch.setattr(
        "edgeflow.training.criterion.Judge.look",
        lambda *_: {"validation_nll": 1.0, "criterion": next(given)},
    )


def test_the_best_epoch_is_kept_not_the_last(
    recipe: Recipe, tmp_path: Path, every_epoch: None, monkeypatch: pytest.MonkeyPatch
):
    kept: dict[int, dict[str, torch.Tensor]] = {}
    saved = loop.save_checkpoint

    def save_and_look(folder: Path, epoch: int, model: Model, *rest: object) -> None:
        kept[epoch] = {name: value.clone() for name, value in model.state_dict().items()}
        saved(folder, epoch, model, *rest)

    monkeypatch.setattr(loop, "save_checkpoint", save_and_look)
    judged([3.0, 1.0, 2.0], monkeypatch)
    train_run(recipe, tmp_path, CPU)
    run = TrainedRun.load(tmp_path)
    assert run.epoch == 2
    assert "3 epochs, 2 kept" in str(run)
    for name, value in weights_of(tmp_path).items():
        assert torch.equal(value, kept[2][name])
    assert any(not torch.equal(value, kept[3][name]) for name, value in kept[2].items())


def test_a_flipped_bit_in_the_best_epoch_is_found(run_folder: Path, tmp_path: Path):
    copy = shutil.copytree(run_folder, tmp_path / "copy")
    content = bytearray((copy / CHECKPOINT).read_bytes())
    place = content.index(b'"best":"') + len('"best":"')
    content[place] ^= 1  # epoch 2 becomes 3
    (copy / CHECKPOINT).write_bytes(content)
    with pytest.raises(TrainingError, match="its hash differs"):
        TrainedRun.load(copy)


def test_resuming_goes_on_from_the_last_and_keeps_the_best(
    recipe: Recipe, tmp_path: Path, every_epoch: None, monkeypatch: pytest.MonkeyPatch
):
    judged([1.0, 2.0, 3.0], monkeypatch)
    train_run(recipe, tmp_path / "unbroken", CPU)
    saved = loop.save_checkpoint

    def save_then_stop(folder: Path, epoch: int, *rest: object) -> None:
        saved(folder, epoch, *rest)
        if epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", save_then_stop)
    judged([1.0, 2.0], monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train_run(recipe, tmp_path / "broken", CPU)
    monkeypatch.setattr(loop, "save_checkpoint", saved)
    judged([3.0], monkeypatch)
    train_run(recipe, tmp_path / "broken", CPU)
    assert TrainedRun.load(tmp_path / "broken").epoch == 1
    assert_same_run(tmp_path / "unbroken", tmp_path / "broken")


def test_against_outliers_the_criterion_is_the_separation_from_sisters(
    recipe: Recipe, tmp_path: Path
):
    train_run(with_loss(recipe, "eq5"), tmp_path, CPU)
    rows = rows_of(tmp_path)
    assert all(row["criterion"] == -row["separation"] for row in rows)
    assert all(0 <= row["outlier_steps_share"] <= 1 for row in rows)
    best = max(rows, key=lambda row: row["separation"])
    assert TrainedRun.load(tmp_path).epoch == best["epoch"]


def test_separation_is_a_ratio_of_distances():
    own, others = torch.tensor([2.0, 2.0]), torch.tensor([5.0, 5.0])
    assert separation(own, others, 1.0) == pytest.approx(np.log(4))
    assert separation(1 + 7 * (own - 1), 1 + 7 * (others - 1), 1.0) == pytest.approx(np.log(4))
    assert separation(own, others, None) == pytest.approx(3.0)


def test_three_clips_train_and_say_that_no_epoch_was_judged(
    recipe: Recipe, sounds: Path, tmp_path: Path
):
    folder = with_clips(sounds, tmp_path / "data", 3)
    few = dataclasses.replace(recipe, data=str(folder))
    train_run(few, tmp_path / "run", CPU)
    run = TrainedRun.load(tmp_path / "run")
    assert (len(run.record.learn), run.record.validation, run.epoch) == (1, (), 3)
    (said,) = run.warnings()
    assert said.startswith("3 clips are too few to spare one that tells the best epoch: the last")


def with_clips(sounds: Path, folder: Path, count: int) -> Path:
    """A copy of the fans in which the first has so many training clips."""
    shutil.copytree(sounds / "fan", folder / "fan")
    for path in sorted((folder / "fan" / "train").glob("normal_id_00_*"))[count:]:
        path.unlink()
    return folder


def test_epoch_0_of_a_linear_start_is_the_linear_flow(linear_start: Recipe, tmp_path: Path):
    recipe = dataclasses.replace(linear_start, loss=LossSpec("eq5"))
    corpus = load_corpus(Dataset.scan(recipe.data), recipe, CPU)
    model, ceiling = start_of(recipe, corpus)
    fit = Lent(corpus, "fan_id_00").fit()
    for starts in (corpus.learn_starts("fan_id_00"), corpus.heldout_starts("fan_id_00")):
        expected = torch.from_numpy(fit.nll(linear_rows(corpus, starts)))
        found = model.score(corpus.heard(starts)).double()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    others = mean_nll(model, corpus, corpus.outlier_starts("fan_id_00"))
    assert ceiling == pytest.approx(others)
    assert not any(parameter.requires_grad for parameter in model.linear.parameters())


def test_a_linear_start_that_training_does_not_better_stays_the_linear_flow(
    linear_start: Recipe, tmp_path: Path, every_epoch: None, monkeypatch: pytest.MonkeyPatch
):
    judged([0.0, 1.0, 2.0, 3.0, 4.0], monkeypatch)
    train_run(linear_start, tmp_path / "kept", CPU)
    run = TrainedRun.load(tmp_path / "kept")
    assert run.epoch == 0
    assert str(run).endswith("training added nothing: this is the linear flow")
    assert [row["epoch"] for row in rows_of(tmp_path / "kept")] == [0, 1, 2, 3, 4]
    judged([4.0, 3.0, 2.0, 1.5, 1.0], monkeypatch)
    train_run(linear_start, tmp_path / "moved", CPU)
    run = TrainedRun.load(tmp_path / "moved")
    assert run.epoch == 4
    assert str(run).endswith("training bettered the linear flow's criterion by 3.0000")


def test_an_interrupted_linear_start_goes_on_to_the_same_flow(
    linear_start: Recipe, tmp_path: Path, every_epoch: None, monkeypatch: pytest.MonkeyPatch
):
    train_run(linear_start, tmp_path / "unbroken", CPU)
    saved = loop.save_checkpoint

    def save_then_stop(folder: Path, epoch: int, *rest: object) -> None:
        saved(folder, epoch, *rest)
        raise KeyboardInterrupt

    for _ in range(2):
        monkeypatch.setattr(loop, "save_checkpoint", save_then_stop)
        with pytest.raises(KeyboardInterrupt):
            train_run(linear_start, tmp_path / "broken", CPU)
    monkeypatch.setattr(loop, "save_checkpoint", saved)
    train_run(linear_start, tmp_path / "broken", CPU)
    assert_same_run(tmp_path / "unbroken", tmp_path / "broken")


def test_a_linear_start_of_three_clips_is_the_linear_flow_with_scores_as_if_unlearned(
    linear_start: Recipe, sounds: Path, tmp_path: Path
):
    folder = with_clips(sounds, tmp_path / "data", 3)
    train_run(dataclasses.replace(linear_start, data=str(folder)), tmp_path / "run", CPU)
    run = TrainedRun.load(tmp_path / "run")
    assert (run.epoch, len(run.record.learn), run.record.heldout) == (0, 3, ())
    assert len(run.unlearned()) == 3
    (said,) = run.warnings()
    assert said.endswith("the linear flow was kept")
    threshold = run.threshold(lambda names: np.empty(len(names)), 0.1)
    assert threshold.usual_spread == LinearFlow.usual_spread


def test_a_linear_start_becomes_a_bundle(linear_start: Recipe, tmp_path: Path):
    from edgeflow_export.bundle_from_run import export
    from edgeflow_export.conditioners import conditioner_count
    from edgeflow_export.onnx_from_model import model_from_trained

    train_run(linear_start, tmp_path / "run", CPU)
    exported = export(tmp_path / "run", tmp_path / "fan.edgeflow", precision="fp16")
    assert exported.parity.worst < 1e-4
    assert exported.graph.precision == "fp16"
    graph = model_from_trained(TrainedRun.load(tmp_path / "run").model)
    assert conditioner_count(graph) == 1 + linear_start.settings.model.blocks


def test_cross_fit_scores_every_learned_clip_with_a_flow_that_did_not_learn_it(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = dataclasses.replace(recipe, cross_fit=3, holdout=0.0)
    train_run(recipe, tmp_path / "run", CPU)
    run = TrainedRun.load(tmp_path / "run")
    assert (len(run.record.learn), run.record.heldout) == (5, ())
    alone = dataclasses.replace(recipe, cross_fit=0)
    train_run(alone, tmp_path / "alone", CPU)
    for name, value in weights_of(tmp_path / "alone").items():
        assert torch.equal(value, run.model.state_dict()[name])
    corpus = load_corpus(Dataset.scan(recipe.data), recipe, CPU)
    learn = corpus.splits["fan_id_00"].learn
    part = corpus.without("fan_id_00", learn[1::3])
    assert part.digest != corpus.digest
    assert part.splits["fan_id_00"].learn == [learn[0], learn[2], learn[3]]
    load_best(tmp_path / "run" / "without_2", run.model)
    expected = clip_scores(run.model, corpus, corpus.clips(learn[1::3])).numpy()
    np.testing.assert_allclose(run.unlearned()[1::3], expected, atol=1e-6)


def test_an_interrupted_cross_fit_goes_on(
    recipe: Recipe, tmp_path: Path, every_epoch: None, monkeypatch: pytest.MonkeyPatch
):
    recipe = with_epochs(dataclasses.replace(recipe, cross_fit=2, holdout=0.0), 2)
    train_run(recipe, tmp_path / "unbroken", CPU)
    saved = loop.save_checkpoint

    def save_then_stop(*arguments: object) -> None:
        saved(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", save_then_stop)
    for _ in range(3):  # into the second part, whose first epoch is left
        with pytest.raises(KeyboardInterrupt):
            train_run(recipe, tmp_path / "broken", CPU)
    assert checkpoint_epoch(tmp_path / "broken" / "without_1") == 2
    monkeypatch.setattr(loop, "save_checkpoint", saved)
    train_run(recipe, tmp_path / "broken", CPU)
    assert_same_run(tmp_path / "unbroken", tmp_path / "broken")
    runs = [TrainedRun.load(tmp_path / name).unlearned() for name in ("unbroken", "broken")]
    np.testing.assert_array_equal(*runs)


def test_cross_fit_is_for_what_is_trained(recipe: Recipe):
    with pytest.raises(ConfigError, match="takes 2 parts or more, and a model that is trained"):
        dataclasses.replace(recipe, cross_fit=2, settings=preset("linear", "small"))


@pytest.mark.parametrize("version", [1, 2])
def test_an_old_run_has_its_last_epoch(run_folder: Path, tmp_path: Path, version: int):
    old = shutil.copytree(run_folder, tmp_path / "old")
    document = json.loads((old / "run.json").read_text())
    del document["validation"], document["linear_separation"]
    for key in ("masks", "linear"):
        del document["recipe"]["settings"]["model"][key]
    del document["recipe"]["cross_fit"]
    document["run_version"] = 2
    if version == 1:
        document = as_version_1(document)
    (old / "run.json").write_text(json.dumps(document))
    model = TrainedRun.load(run_folder).model
    last = {name: value + 1 for name, value in model.state_dict().items()}
    model.load_state_dict(last)
    save_checkpoint(old, 3, model)  # as it was: no best epoch beside the last
    run = TrainedRun.load(old)
    assert (run.epoch, run.record.validation, run.warnings()) == (3, (), [])
    assert all(torch.equal(run.model.state_dict()[name], value) for name, value in last.items())
    save_checkpoint(old, 1, model)
    with pytest.raises(TrainingError, match="was begun by an older edgeflow"):
        train_run(run.record.recipe, old, CPU)


def trained_rows(validation: list[float], **more: list[float]) -> list[dict]:
    learned = np.linspace(1.0, 0.7, len(validation))
    rows = [
        {"epoch": k + 1, "target_nll": float(learned[k]), "validation_nll": value}
        for k, value in enumerate(validation)
    ]
    for key, values in more.items():
        for row, value in zip(rows, values, strict=True):
            row[key] = value
    return rows


def test_what_went_wrong_is_said_with_what_to_do(run_folder: Path):
    record = dataclasses.replace(TrainedRun.load(run_folder).record, linear_separation=None)
    by_heart = trained_rows([1.0, *np.linspace(1.01, 1.2, 9)])
    (said,) = warnings(record, by_heart, 1)
    assert said.startswith("it learned its clips by heart: epoch 1 was the best of 10")
    assert "0.50 nats/dim" in said
    assert said.endswith("more clips, or take --model linear")
    assert warnings(record, by_heart, 9) == []
    assert warnings(record, trained_rows([0.75] * 10), 1) == []
    losing = trained_rows([0.75] * 10, separation=[0.3] * 10)
    assert warnings(record, losing, 5) == []
    beaten = dataclasses.replace(record, linear_separation=0.5)
    (said,) = warnings(beaten, losing, 5)
    assert "better: 0.50 against 0.30" in said
    assert warnings(dataclasses.replace(record, linear_separation=0.35), losing, 5) == []
    (said,) = warnings(record, trained_rows([0.75] * 2, outlier_steps_share=[0.0, 0.0]), 2)
    assert said.startswith("no outlier was ever near enough")
    assert warnings(record, trained_rows([0.75] * 2, outlier_steps_share=[0.5, 0.0]), 2) == []


def test_a_trained_run_is_held_against_the_linear_flow(run_folder: Path):
    run = TrainedRun.load(run_folder)
    assert run.record.linear_separation is not None
    assert np.isfinite(run.record.linear_separation)
    assert "separation from sisters" in str(run)


def test_a_log_foresees_the_end(capsys: pytest.CaptureFixture):
    with Progress("training fan", 1001, "step") as progress:
        progress.advance(steps=1)
        progress.foresee(0.01)
        assert capsys.readouterr().err == ""
        progress.foresee(0.06)
        assert capsys.readouterr().err == "training fan: about 60 s for 1000 steps\n"
        progress.foresee(1.2)
        assert capsys.readouterr().err == "training fan: about 20 min for 1000 steps\n"


def test_the_first_steps_foresee_the_end(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    said: list[float] = []
    monkeypatch.setattr(Progress, "foresee", lambda self, unit_s: said.append(unit_s))
    train_run(recipe, tmp_path, CPU)
    assert len(said) == 1
    assert 0 < said[0] < 60


def test_the_preset_on_a_cpu_is_small(recipe: Recipe, tmp_path: Path):
    machine = Dataset.scan(recipe.data).machine("fan", "00")
    run = train(machine, tmp_path, model="maf", epochs=1, device="cpu")
    assert run.record.recipe.settings.model == preset("maf", "small").model
