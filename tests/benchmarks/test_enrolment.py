"""The table of machines never seen counts every monitor, and says what it cannot measure."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from edgeflow.synth import SynthSpec, synthesise
from edgeflow_benchmarks.enrolment import Outcome, main, rows_of


def test_each_machine_is_left_out_in_turn(tmp_path: Path):
    synthesise(tmp_path / "sounds", SynthSpec(("fan",), machines=3, clips=4, seconds=2.0))
    arguments = [str(tmp_path / "sounds"), "--clips", "1,3,9", "--draws", "2", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    monitors = json.loads(result.stdout)["monitors"]
    assert [one["clips"] for one in monitors] == [0, 1, 1, 3, 3] * 3  # 9 are more than there are
    trained = [one for one in monitors if not one["clips"]]
    assert all(0 <= one["auc"] <= 1 and 0 <= one["false_alarms"] <= 1 for one in trained)


def test_a_type_of_too_few_machines_is_refused(sounds: Path):
    result = CliRunner().invoke(main, [str(sounds)])
    assert result.exit_code == 2
    assert "2 machines" in result.stderr.splitlines()[-1]


def test_the_table_means_over_what_was_measured():
    outcomes = [Outcome("fan", 1, 0.5, 0.0, 1.0), Outcome("fan", 1, unlike=True)]
    *_, row = rows_of([*outcomes, Outcome("fan", 0, 0.75, 0.5, 0.5)])
    assert row == "| fan | all, trained | 0.750 | 50.0% | 50% | 0 | 1 |"
    assert "| fan | 1 | 0.500 | 0.0% | 100% | 1 | 2 |" in rows_of(outcomes)
