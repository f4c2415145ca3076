"""AUC, pAUC and the baseline, on figures that can be checked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgeflow.baseline import MahalanobisBaseline
from edgeflow.cli import cli
from edgeflow.dataset import Dataset
from edgeflow.evaluation import auc_and_pauc, evaluate_machine
from edgeflow.features import FeatureStore
from edgeflow_runtime.errors import DataError, ScoreError
from edgeflow_runtime.logmel import LogMelSpec
from edgeflow_runtime.manifest import Features

STORE = FeatureStore(Features(128, 0, None, LogMelSpec()))


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


def test_baseline_finds_a_louder_band():
    rng = np.random.default_rng(0)
    clips = [rng.normal(0, 1, (50, 128)).astype(np.float32) for _ in range(30)]
    baseline = MahalanobisBaseline(clips[:20])
    louder = [clip + np.eye(128, dtype=np.float32)[5] * 3 for clip in clips[20:]]
    assert auc_and_pauc(baseline.scores(clips[20:]), baseline.scores(louder))[0] == 1.0


def test_a_machine_without_both_kinds_is_refused(sounds: Path):
    machine = Dataset.scan(sounds).machine("fan", "00")
    machine.test_anomalous.clear()
    with pytest.raises(DataError, match="5 normal and 0 anomalous"):
        evaluate_machine(
            machine,
            lambda paths: np.zeros(len(paths)),
            STORE,
        )


def test_flow_and_baseline_are_judged_on_the_same_clips(sounds: Path):
    machine = Dataset.scan(sounds).machine("fan", "00")

    def oracle(paths: list[Path]) -> np.ndarray:
        return np.array([float("anomaly" in path.name) for path in paths])

    result = evaluate_machine(machine, oracle, STORE)
    assert (result.auc, result.pauc, result.normal, result.anomalous) == (1.0, 1.0, 5, 5)
    assert 0 <= result.baseline_auc <= 1


def test_the_commands_document_names_its_schema(bundle_path: Path, sounds: Path):
    result = CliRunner().invoke(cli, ["evaluate", str(bundle_path), str(sounds), "--json"])
    document = json.loads(result.stdout)
    assert list(document) == ["schema", "machines", "mean"]
    assert document["schema"] == "edgeflow.evaluation.v1"
    chapters = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    assert f"`{document['schema']}`" in chapters
