"""The benchmark runs whole, counts right and says what it lacks; no time is ever asserted."""

from __future__ import annotations

import json
import math
import os
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgeflow_benchmarks.__main__ import PACKAGES, main
from edgeflow_benchmarks.report import Goal, Row, document, table
from edgeflow_runtime.errors import BackendError, ParityError
from edgeflow_runtime.extras import missing


def _needs_extras() -> None:
    for package in PACKAGES["practice"]:
        pytest.importorskip(package, reason=f"{package} is missing: pip install 'edgeflow[bench]'")


@pytest.mark.slow
def test_quick_run_reports_every_row(tmp_path: Path) -> None:
    _needs_extras()
    path = tmp_path / "bench.json"
    result = CliRunner().invoke(main, ["--quick", "-o", str(path)])
    assert result.exit_code == 0, result.output
    content = json.loads(path.read_text())
    expected = {"device", "versions", "commit", "numpy's BLAS", "load average"}
    assert expected <= set(content["environment"])
    rows = content["rows"]
    for row in rows:
        assert row["what"] in result.output
        numbers = [row[key] for key in ("edgeflow", "reference", "ratio") if row[key] is not None]
        assert all(math.isfinite(n) and n >= 0 for n in numbers), row
        assert (row["reference"] is None) == (row["ratio"] is None)
    names = " ".join(row["what"] for row in rows)
    for part in (
        "psf",
        "slaney",
        "linear flow",
        "Glow, file",
        "MAF, file",
        "flow alone",
        "--help",
        "peak memory",
    ):
        assert part in names
    agreement = next(row for row in rows if "difference" in row["what"])
    assert agreement["reached"] is True


@pytest.mark.slow
def test_the_gpu_script_measures_what_is_here_and_names_the_rest(tmp_path: Path) -> None:
    _needs_extras()
    path = tmp_path / "gpu.json"
    result = CliRunner().invoke(main, ["gpu", "--quick", "--json", "-o", str(path)])
    assert result.exit_code == 0, result.output
    content = json.loads(path.read_text())
    assert json.loads(result.stdout) == content
    names = [row["what"] for row in content["rows"]]
    for flow in ("Glow", "MAF"):
        for precision in ("fp32", "fp16", "int8"):
            for way in ("on cpu, batch 4", "from samples, batch 2", "files to verdicts"):
                if way == "on cpu, batch 4" and not content["environment"]["GPU"].startswith("no"):
                    continue
                rest = f"{way}, onnxruntime" + (" cpu" if "batch" in way else "")
                assert f"{flow} {rest} {precision}".replace(" files", ", files") in names
    for row in content["rows"]:
        assert math.isfinite(row["ratio"])
        assert row["ratio"] > 0
    ran = " ".join(names)
    for backend in ("tensorrt", "tensorrt-rtx", "onnxruntime cuda"):
        reason = content["environment"].get(backend, "")
        assert f", {backend} fp16" in ran or reason.startswith("not here: "), backend


def test_multiply_adds_of_a_graph_counted_by_hand() -> None:
    _needs_extras()
    from onnx import TensorProto, helper, numpy_helper

    from edgeflow_benchmarks.arithmetic import multiply_adds

    def weight(name: str, *shape: int) -> object:
        return numpy_helper.from_array(np.zeros(shape, np.float32), name)

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 4, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 7])
    nodes = [
        # 3 x 3 from 2 to 8 channels on 4 x 6 cells: 8 * 24 * 2 * 9 = 3456
        helper.make_node("Conv", ["x", "a"], ["h"], pads=[1, 1, 1, 1]),
        # 1 x 1 in 2 groups of 4 channels: 8 * 24 * 4 = 768
        helper.make_node("Conv", ["h", "b"], ["i"], group=2),
        # 3 x 3 back to 3 channels: 8 * 24 * 3 * 9 = 5184
        helper.make_node("ConvTranspose", ["i", "c"], ["j"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["j"], ["k"]),
        helper.make_node("Flatten", ["k"], ["l"]),
        # 72 to 5: 360; 5 to 7: 35
        helper.make_node("Gemm", ["l", "d"], ["m"], transB=1),
        helper.make_node("MatMul", ["m", "e"], ["y"]),
    ]
    weights = [
        weight("a", 8, 2, 3, 3),
        weight("b", 8, 4, 1, 1),
        weight("c", 8, 3, 3, 3),
        weight("d", 5, 72),
        weight("e", 5, 7),
    ]
    graph = helper.make_graph(nodes, "by_hand", [x], [y], weights)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    assert multiply_adds(model.SerializeToString()) == 3456 + 768 + 5184 + 360 + 35


@pytest.mark.parametrize("package", ["librosa", "torch"])
def test_missing_extra_is_one_line(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeflow_benchmarks.__main__.require", _without(package))
    result = CliRunner().invoke(main, ["--quick"])
    assert result.exit_code == 2
    assert f"'{package}' is not installed" in result.output
    assert "[bench]" in result.output
    assert len(result.output.splitlines()) == 1


def _without(gone: str) -> object:
    def require(package: str, extra: str) -> object:
        if package == gone:
            raise missing(package, extra)
        return import_module("json")

    return require


def test_unequal_logmel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeflow_benchmarks import logmel as benchmark
    from edgeflow_runtime.logmel import LogMel, LogMelSpec

    spec = LogMelSpec(filterbank="slaney")
    samples = np.sin(np.arange(16000, dtype=np.float32))
    other = LogMel(spec)(samples).T + np.float32(0.01)
    monkeypatch.setattr(benchmark, "librosa_logmel", lambda samples, spec: other)
    with pytest.raises(ParityError, match=r"1\.0e-02 dB from librosa"):
        benchmark.check_agreement(samples, spec)


def test_one_core_is_given_back() -> None:
    _needs_extras()
    from edgeflow_benchmarks.timing import one_core

    before = os.sched_getaffinity(0)
    with one_core():
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


def test_peak_memory_is_the_childs_own() -> None:
    from edgeflow_benchmarks.timing import watch

    held = np.ones(40_000_000, np.float32)  # 160 MB that must not be counted
    small = watch([sys.executable, "-c", "pass"])
    large = watch([sys.executable, "-c", "b = b'1' * 80_000_000"])
    assert held.sum() > 0
    assert 2 < small.peak_mb < 60
    assert 80 < large.peak_mb - small.peak_mb + 5 < 100


def test_failed_command_is_named() -> None:
    from edgeflow_benchmarks.timing import watch

    with pytest.raises(BackendError, match=r"status 3: gone"):
        watch([sys.executable, "-c", "import sys; print('gone', file=sys.stderr); sys.exit(3)"])


def test_commit_outside_a_checkout_is_none(tmp_path: Path) -> None:
    _needs_extras()
    from edgeflow_benchmarks.environment import commit

    assert commit(tmp_path) == "none"


def test_goals_bound_ratio_or_figure() -> None:
    faster = Row("a", 2.0, "ms", "b", 4.0, 2.0, Goal(2.5, "x"))
    lighter = Row("a", 200.0, "MB", goal=Goal(250, "MB", at_most=True))
    assert (faster.reached, lighter.reached, Row("a", 1.0, "s").reached) == (False, True, None)
    assert table([faster, lighter]).count("\n") == 2
    assert json.loads(document({}, [faster]))["rows"][0]["goal"] == ">= 2.5 x"
