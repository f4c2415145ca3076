"""AUC, pAUC and the baseline, on figures that can be checked by hand."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgeflow.baseline import BASELINES
from edgeflow.cli import cli
from edgeflow.dataset import Dataset
from edgeflow.evaluation import auc_and_pauc, evaluate, measure
from edgeflow.evaluation_result import Evaluation
from edgeflow.plots import save_plots
from edgeflow.subjects import ClipScores, Subject
from edgeflow.training.corpus import Corpora
from edgeflow.training.train import train
from edgeflow_runtime.calibration import binomial_interval
from edgeflow_runtime.errors import ConfigError, DataError, ScoreError
from edgeflow_runtime.logmel import LogMelSpec
from edgeflow_runtime.manifest import Features, MachineId, Threshold
from edgeflow_runtime.views import WindowSpec


def test_auc_counts_the_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    normal, anomalous = rng.normal(0, 1, 40), rng.normal(1, 1, 30)
    pairs = np.mean(anomalous[:, None] > normal[None, :])
    assert auc_and_pauc(normal, anomalous)[0] == pytest.approx(float(pairs))


def test_pauc_of_chance_is_a_half_and_of_perfection_one():
    ramp = np.arange(1000.0)
    assert auc_and_pauc(ramp, ramp)[1] == pytest.approx(0.5, abs=1e-3)
    assert auc_and_pauc(ramp, ramp + 1000) == (1.0, 1.0)


def test_scores_that_cannot_be_ranked_are_refused():
    with pytest.raises(ScoreError, match=r"1 score\(s\) are not finite"):
        auc_and_pauc(np.array([0.0, np.nan]), np.array([1.0]))
    with pytest.raises(DataError, match="found 0 and 1"):
        auc_and_pauc(np.array([]), np.array([1.0]))


def subject(scores: ClipScores, limit: float = 0.5, **changes: object) -> Subject:
    threshold = Threshold(limit, "by hand", 0.05, 20, 2.0)
    features = Features(128, 0, None, LogMelSpec())
    made = Subject(MachineId("fan", "00"), "maf", WindowSpec(4, 4), features, scores, threshold)
    return dataclasses.replace(made, **changes)


def oracle(paths: Sequence[Path]) -> np.ndarray:
    return np.array([float("anomaly" in path.name) for path in paths])


def by_number(paths: Sequence[Path]) -> np.ndarray:
    """Scores 0, 1, 2 ... of normal and of anomalous clips alike."""
    return np.concatenate([np.arange(len(list(part))) for _, part in groupby(paths, _kind)]) * 1.0


def _kind(path: Path) -> str:
    return path.name.split("_")[0]


def test_model_and_baseline_are_judged_on_the_same_clips(sounds: Path):
    result = measure(subject(oracle), Dataset.scan(sounds), BASELINES["linear"])
    assert (result.auc, result.pauc, result.normal, result.anomalous) == (1.0, 1.0, 5, 5)
    assert (result.false_alarms, result.detected, result.promised) == (0.0, 1.0, 0.05)
    assert 0 <= result.baseline_auc <= 1
    assert result.baseline == str(BASELINES["linear"])


def test_rates_are_those_above_the_threshold_with_their_exact_interval(sounds: Path):
    result = measure(subject(by_number, 2.0), Dataset.scan(sounds), BASELINES["clip-mean"])
    assert (result.false_alarms, result.detected, result.threshold) == (0.4, 0.4, 2.0)
    interval = result.false_alarms_low, result.false_alarms_high
    assert interval == binomial_interval(2, 5)


def test_normal_clips_alone_give_false_alarms(sounds: Path):
    dataset = Dataset.scan(sounds)
    dataset.machine("fan", "00").test_anomalous.clear()
    result = measure(subject(by_number, 3.0), dataset, BASELINES["linear"])
    assert result.false_alarms == 0.2
    record = result.record()
    assert [record[name] for name in ("auc", "pauc", "baseline_auc", "detected")] == [None] * 4
    evaluation = Evaluation((result,))
    assert evaluation.means()["auc"] is None
    assert " -      -     -      -        5.0    20.0" in str(evaluation)
    dataset.machine("fan", "00").test_normal.clear()
    with pytest.raises(DataError, match="has no normal test clips"):
        measure(subject(by_number), dataset, BASELINES["linear"])


def test_a_mean_is_over_the_machines_that_have_the_figure(sounds: Path):
    dataset = Dataset.scan(sounds)
    one = measure(subject(by_number, 3.0), dataset, BASELINES["linear"])
    dataset.machine("fan", "00").test_anomalous.clear()
    other = measure(subject(by_number, 0.0), dataset, BASELINES["linear"])
    both = Evaluation((one, other))
    assert both.auc == one.auc
    assert both.false_alarms == pytest.approx((0.2 + 0.8) / 2)
    means = both.means()
    assert (means["false_alarms_low"], means["false_alarms_high"]) == binomial_interval(5, 10)


def test_the_baseline_is_not_shown_beside_itself(sounds: Path):
    itself = subject(oracle, model="linear", view=BASELINES["linear"].view)
    dataset = Dataset.scan(sounds)
    result = measure(itself, dataset, BASELINES["linear"])
    assert np.isnan(result.baseline_auc)
    assert result.baseline.startswith("the model is itself the linear flow")
    assert f"baseline: {result.baseline}" in str(Evaluation((result,)))
    assert 0 <= measure(itself, dataset, BASELINES["clip-mean"]).baseline_auc <= 1


def test_a_baseline_that_cannot_be_fitted_says_why(sounds: Path):
    dataset = Dataset.scan(sounds)
    dataset.machine("fan", "00").train.clear()
    result = measure(subject(oracle), dataset, BASELINES["linear"])
    assert (result.auc, result.baseline) == (1.0, "none: the machine has no training clips")


def test_sisters_are_scored_if_they_are_asked_for(sounds: Path):
    dataset = Dataset.scan(sounds)
    scores = measure(subject(oracle), dataset, BASELINES["linear"], sisters=True).scores
    assert (len(scores.normal), len(scores.anomalous), len(scores.sisters)) == (5, 5, 5)


def test_a_runs_threshold_is_the_one_that_export_sets(
    run_folder: Path, bundle_path: Path, sounds: Path
):
    bundle = evaluate(bundle_path, sounds)
    promised = f"{bundle.machines[0].promised:.0%}"
    run = evaluate(run_folder, sounds, false_alarm_probability=promised)
    assert run.machines[0].threshold == pytest.approx(bundle.machines[0].threshold, rel=1e-5)
    assert run.false_alarms == bundle.false_alarms
    laxer = evaluate(run_folder, sounds, false_alarm_probability="30%")
    assert laxer.machines[0].promised == 0.3
    assert laxer.machines[0].threshold < evaluate(run_folder, sounds).machines[0].threshold
    with pytest.raises(ConfigError, match="has its threshold"):
        evaluate(bundle_path, sounds, false_alarm_probability=0.3)


def test_real_machines_keep_their_promise(mimii: Path, tmp_path: Path):
    """Seven clips each carry 1/8; of 48 later normal clips no more alarm than that allows."""
    dataset, corpora = Dataset.scan(mimii), Corpora()
    for name, machine in dataset.machines.items():
        train(machine, tmp_path / name, device="cpu", corpora=corpora)
    means = evaluate(tmp_path, dataset, false_alarm_probability="12.5%").means()
    assert means["false_alarms_low"] <= means["promised"] <= means["false_alarms_high"]


def test_pictures_are_drawn_of_what_there_is(run_folder: Path, sounds: Path, tmp_path: Path):
    arguments = ["evaluate", str(run_folder), str(sounds), "--plots", str(tmp_path / "plots")]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    pictures = sorted((tmp_path / "plots").iterdir())
    names = [f"fan_id_00-{kind}.png" for kind in ("roc", "scores", "training")]
    assert [picture.name for picture in pictures] == names
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    dataset = Dataset.scan(sounds)
    dataset.machine("fan", "00").test_anomalous.clear()
    result = measure(subject(by_number, 1e6), dataset, BASELINES["linear"])
    assert [path.name for path in save_plots(result, None, tmp_path)] == ["fan_id_00-scores.png"]


def test_the_commands_document_names_its_schema(bundle_path: Path, sounds: Path):
    result = CliRunner().invoke(cli, ["evaluate", str(bundle_path), str(sounds), "--json"])
    document = json.loads(result.stdout)
    assert list(document) == ["schema", "machines", "mean"]
    assert document["schema"] == "edgeflow.evaluation.v2"
    chapters = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    assert f"`{document['schema']}`" in chapters
    assert all(f"`{key}`" in chapters for key in document["machines"][0])
