"""Building: real compiles by TensorRT-RTX, and builds that die, lie, or find no room."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import edgeflow_runtime.backends.tensorrt.build as building
from edgeflow.cli import cli
from edgeflow_runtime.backends.tensorrt.build import AHEAD_OF_TIME, build_engine
from edgeflow_runtime.backends.tensorrt.engine_record import COMPILE_CHECK, BuildOrder
from edgeflow_runtime.backends.tensorrt.engine_store import EngineStore
from edgeflow_runtime.backends.tensorrt.nvidia_driver import probe_gpu
from edgeflow_runtime.backends.tensorrt.tensorrt_module import is_installed
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.errors import BundleError, DeviceError, EngineError, ProofError, StorageError

needs_rtx = pytest.mark.skipif(
    not is_installed("tensorrt-rtx"),
    reason="TensorRT-RTX is not installed: pip install -c constraints.txt '.[rtx]'",
)


def rtx(bundle):
    return BuildOrder(str(bundle), backend="tensorrt-rtx", buckets=(4, 1))


def no_gpu():
    try:
        probe_gpu()
    except DeviceError:
        return True
    return False


without_gpu = pytest.mark.skipif(not no_gpu(), reason="this machine has a GPU")


@pytest.fixture
def bundle(bundle_path, tmp_path):
    return shutil.copy(bundle_path, tmp_path / "fan.edgeflow")


def quiet(*_):
    """Progress that nobody watches."""


@needs_rtx
@without_gpu
def test_without_a_gpu_rtx_compiles_and_says_what_that_is_worth(bundle):
    phases = []
    record = build_engine(rtx(bundle), lambda *step: phases.append(step)).record
    store = EngineStore(bundle)
    assert record == store.record("flow", "tensorrt-rtx")
    assert record.buckets == (1, 4)
    assert record.label == COMPILE_CHECK
    assert record.key.compute_capability == ",".join(AHEAD_OF_TIME)
    assert record.layers["FLOAT"] > 0
    assert phases
    assert (store.folder / record.file).stat().st_size > 10_000
    assert not list(store.folder.glob(".*.building"))
    with pytest.raises(EngineError, match="has never run"):
        store.load(record.key)


@needs_rtx
@without_gpu
def test_the_command_prints_the_label(bundle):
    result = CliRunner().invoke(cli, ["build", str(bundle), "--backend", "tensorrt-rtx"])
    assert result.exit_code == 0, result.output
    assert COMPILE_CHECK in result.output
    assert "there is no GPU here" in result.output


@pytest.mark.skipif(is_installed("tensorrt"), reason="TensorRT is installed here")
def test_a_missing_library_is_one_line_with_its_mend(bundle):
    result = CliRunner().invoke(cli, ["build", str(bundle)])
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert "comes with JetPack" in result.output
    assert not EngineStore(bundle).folder.exists()


def child(tmp_path, text):
    """A building process of the test's own; it gets the request as ``r``."""
    script = tmp_path / "child.py"
    start = "import json, os, signal, sys, time\nr = json.loads(sys.stdin.readline())\n"
    script.write_text(start + textwrap.dedent(text))
    return [sys.executable, str(script)]


@pytest.fixture
def anywhere(monkeypatch):
    """As if a library and a GPU were here: what builds is the test's own process."""
    monkeypatch.setattr(building, "is_installed", lambda name: True)
    monkeypatch.setattr(building, "probe_gpu", lambda: None)


GOOD = """
    import hashlib, pathlib
    from edgeflow_runtime.bundle import Bundle
    content = os.environ.get("FAKE_ENGINE", "engine").encode()
    pathlib.Path(r["candidate"]).write_bytes(content)
    sha = hashlib.sha256(content).hexdigest()
    onnx = hashlib.sha256(Bundle.load(r["bundle"]).onnx).hexdigest()
    print("a library's own words", flush=True)
    print(json.dumps({"phase": "timing", "done": 1, "steps": 2}), flush=True)
    key = dict(backend=r["backend"], graph="flow", onnx=onnx, version="10.3.0", build=26,
        gpu="Orin", compute_capability="8.7", multiprocessors=8, driver="12.6", l4t="36.4.3")
    print(json.dumps({"record": dict(record_version=1, key=key, buckets=r["buckets"],
        precision="fp32", layers={"FLOAT": 1}, workspace=r["workspace"], seconds=1.0,
        file="flow-tensorrt-" + sha[:12] + ".engine", sha256=sha,
        proof=dict(windows=3, buckets=r["buckets"], nll=1e-6, allowed=1e-4))}))
"""


def test_progress_passes_and_the_engine_stands(bundle, tmp_path, anywhere):
    said = []
    record = build_engine(
        BuildOrder(str(bundle)), lambda *s: said.append(s), child(tmp_path, GOOD)
    ).record
    assert said == [("timing", 1, 2)]
    assert EngineStore(bundle).load(record.key) == (record, b"engine")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed, most likely for want of memory"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"TensorRT crashed \(SIGSEGV\)"),
        ("sys.exit('libnvinfer: version mismatch')", "status 1: libnvinfer: version mismatch"),
        ("pass", "status 0: it said nothing"),
        ("print(json.dumps({'error': 'no kernel for this'}))", "no kernel for this"),
        (GOOD + "\n    open(r['candidate'], 'ab').write(b'x')", "its hash differs"),
        (GOOD.replace("onnx=onnx", "onnx='other'"), "the bundle was replaced"),
        (GOOD.replace(".write_bytes(content)", ""), "cannot be read"),
    ],
)
def test_whatever_becomes_of_a_build_the_last_good_engine_stays(
    bundle, tmp_path, anywhere, text, said
):
    good = build_engine(BuildOrder(str(bundle)), quiet, child(tmp_path, GOOD)).record
    with pytest.raises(EngineError, match=said) as caught:
        build_engine(BuildOrder(str(bundle)), quiet, child(tmp_path, text))
    assert "\n" not in str(caught.value)
    store = EngineStore(bundle)
    assert store.load(good.key) == (good, b"engine")
    assert not list(store.folder.glob(".*.building"))
    result = CliRunner().invoke(cli, ["verify", str(bundle)])
    assert result.exit_code == 0, result.output  # the CPU path works on


@needs_rtx
@without_gpu
def test_a_compile_check_does_not_push_a_proven_engine_out(bundle, tmp_path, anywhere, monkeypatch):
    proven = child(tmp_path, GOOD.replace("flow-tensorrt-", "flow-tensorrt-rtx-"))
    good = build_engine(rtx(bundle), quiet, proven).record
    monkeypatch.undo()
    built = build_engine(rtx(bundle), quiet)
    assert built.record.proof is None
    assert built.path is None
    result = CliRunner().invoke(cli, ["build", str(bundle), "--backend", "tensorrt-rtx"])
    assert "nowhere: the engine that is proven stays" in result.output
    assert EngineStore(bundle).load(good.key) == (good, b"engine")


def test_a_bundle_that_is_replaced_during_the_build_is_noticed(bundle, tmp_path, anywhere):
    from edgeflow_runtime.bundle_writer import write_bundle

    good = build_engine(BuildOrder(str(bundle)), quiet, child(tmp_path, GOOD)).record
    whole = Bundle.load(bundle)
    parts = (whole.manifest, whole.onnx + bytes([6 << 3 | 2, 1, 65]), whole.frontend, whole.golden)
    # Between the child's answer and the parent's check, as a build of minutes allows.
    last = GOOD + f"\n    os.replace({str(tmp_path / 'other')!r}, r['bundle'])"
    write_bundle(tmp_path / "other", *parts)
    with pytest.raises(EngineError, match="the bundle was replaced while its engine was built"):
        build_engine(BuildOrder(str(bundle)), quiet, child(tmp_path, last))
    store = EngineStore(bundle)
    assert store.load(good.key) == (good, b"engine")


@needs_rtx
@without_gpu
def test_nothing_is_imported_from_the_current_folder(bundle, tmp_path):
    poisoned = tmp_path / "poisoned"
    poisoned.mkdir()
    for name in ("numpy.py", "safetensors.py", "tensorrt.py"):
        (poisoned / name).write_text("raise SystemExit('poison')")
    front = Path(sys.executable).with_name("edgeflow")
    if not front.exists():
        pytest.skip("edgeflow is not installed as a command: pip install -e .")
    done = subprocess.run(
        [front, "build", bundle, "--backend", "tensorrt-rtx"],
        cwd=poisoned,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_engine_that_misses_the_golden_scores_keeps_its_kind(bundle, tmp_path, anywhere):
    answer = "print(json.dumps({'error': 'it is not used', 'kind': 'ProofError'}))"
    with pytest.raises(ProofError, match="it is not used"):
        build_engine(BuildOrder(str(bundle)), quiet, child(tmp_path, answer))


def test_too_little_memory_is_said_beforehand(bundle, anywhere):
    with pytest.raises(EngineError, match=r"takes about \d+ MB of memory and \d+ MB are free"):
        build_engine(BuildOrder(str(bundle), workspace=2**50), quiet)


def test_too_little_disk_is_said_beforehand(bundle, anywhere, monkeypatch):
    usage = shutil.disk_usage(bundle)._replace(free=10)
    monkeypatch.setattr(building.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(EngineError, match=r"MB of disk and .* has 0 MB free"):
        build_engine(BuildOrder(str(bundle)), quiet)


def small_files():
    """Let no file of the child's grow past 100 kB, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


@needs_rtx
@without_gpu
def test_a_disk_that_fills_up_amid_the_build_is_one_line(bundle):
    done = edgeflow(["build", bundle, "--backend", "tensorrt-rtx"], preexec_fn=small_files)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("Error: ")
    assert "could not be written" in done.stderr
    assert not list(EngineStore(bundle).folder.glob("*.engine"))
    assert not list(EngineStore(bundle).folder.glob(".flow*"))


def little_memory():
    """Address space for Python and the libraries, but not for a build."""
    resource.setrlimit(resource.RLIMIT_AS, (500 * 2**20, 500 * 2**20))


@needs_rtx
@without_gpu
def test_memory_that_runs_out_amid_the_build_is_one_line(bundle):
    done = edgeflow(["build", bundle, "--backend", "tensorrt-rtx"], preexec_fn=little_memory)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("Error: TensorRT cannot build")
    assert "stop other programs" in done.stderr
    assert not list(EngineStore(bundle).folder.glob("*.engine"))


def edgeflow(arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "edgeflow", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        check=False,
        **options,
    )


def test_the_builder_dies_with_its_parent(bundle, tmp_path):
    """A parent that is killed leaves no process that goes on building."""
    holder = tmp_path / "pid"
    code = f"""
        import os, time
        import edgeflow_runtime.backends.tensorrt.build_process as builder
        child = os.fork()
        if child == 0:
            builder._die_with_parent(os.getppid())
            open({str(holder)!r}, "w").write(str(os.getpid()))
            time.sleep(60)
        time.sleep(60)
    """
    parent = subprocess.Popen([sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)])
    for _ in range(200):
        if holder.exists() and holder.read_text():
            break
        time.sleep(0.05)
    grandchild = int(holder.read_text())
    parent.kill()
    parent.wait()
    for _ in range(100):
        if is_gone(grandchild):
            return
        time.sleep(0.05)
    pytest.fail("the child lives on")


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except FileNotFoundError:
        return True


def test_two_builds_at_once_exclude(bundle, tmp_path, anywhere):
    slow = child(tmp_path, "time.sleep(60)")
    code = (
        "import edgeflow_runtime.backends.tensorrt.build as b\n"
        "b.is_installed = lambda name: True\n"
        "b.probe_gpu = lambda: None\n"
        f"b.build_engine(b.BuildOrder({str(bundle)!r}), print, {slow!r})\n"
    )
    first = subprocess.Popen([sys.executable, "-c", code])
    try:
        lock = EngineStore(bundle).folder / ".lock"
        for _ in range(400):
            if lock.exists() and lock.read_text() == str(first.pid):
                break
            time.sleep(0.05)
        with pytest.raises(EngineError, match=f"process {first.pid} is building"):
            build_engine(BuildOrder(str(bundle)), quiet, child(tmp_path, GOOD))
    finally:
        first.kill()
        first.wait()
    build_engine(BuildOrder(str(bundle)), quiet, child(tmp_path, GOOD))


def test_a_bundle_without_the_graph_is_one_line(bundle, anywhere):
    with pytest.raises(BundleError, match="export it with --audio-in"):
        build_engine(BuildOrder(str(bundle), graph="audio"), quiet)


def test_a_folder_that_cannot_be_written_is_one_line(bundle, anywhere):
    EngineStore(bundle).folder.write_text("a file")
    with pytest.raises(StorageError, match="cannot be written"):
        build_engine(BuildOrder(str(bundle)), quiet)


def test_orders_are_strict(bundle):
    from edgeflow_runtime.errors import ConfigError

    with pytest.raises(ConfigError):
        BuildOrder.from_dict(json.loads('{"bundle": "x", "surprise": 1}'))
