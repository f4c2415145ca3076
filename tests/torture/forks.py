"""A process that has loaded edgeflow and forks for each command: a thousand tries take minutes."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

LOADED = (
    "torch", "onnx", "onnxscript", "onnxruntime", "scipy.fft", "scipy.stats", "soundfile", "soxr",
    "matplotlib.pyplot", "safetensors.torch", "filelock", "edgeflow.cli.train",
    "edgeflow.training.train",
    "edgeflow.synth", "edgeflow_export.cli", "edgeflow_export.bundle_from_run",
    "edgeflow_runtime.cli.score", "edgeflow_runtime.cli.engines", "edgeflow_runtime.scorer",
)  # fmt: skip
"""What takes long to import, and what a command imports late."""

PATIENCE_S = 120
"""A command that takes longer hangs."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    """Its exit status; negative for the signal that killed it."""
    out: str
    """Standard output."""
    err: str
    """Standard error."""
    peak_mb: float
    """Its peak of resident memory."""


def compiled(folder: Path) -> Path | None:
    """The library that injects faults, compiled into ``folder``; ``None`` without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library = folder / "faults.so"
    source = HERE / "faults.c"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


class Forks:
    """Runs commands of edgeflow, each in a fresh fork, on one core and with one thread.

    Args:
        scratch: folder for what is said on standard error.
        library: preloaded, if given.
    """

    def __init__(self, scratch: Path, library: Path | None = None) -> None:
        self._err = scratch / "stderr"
        paths = [ROOT, ROOT / "export", ROOT / "runtime", ROOT / "benchmarks"]
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment = {**os.environ, **single, "PYTHONPATH": os.pathsep.join(map(str, paths))}
        if library:
            environment["LD_PRELOAD"] = str(library)
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True,
        )  # fmt: skip

    def run(
        self,
        arguments: list[str],
        out: Path,
        memory_mb: int | None = None,
        user: int | None = None,
        **environment: str,
    ) -> Done:
        """Run ``edgeflow`` with ``arguments``.

        Args:
            arguments: of the command line.
            out: file of standard output, which may lie in a watched folder.
            memory_mb: address space above what the loaded process has.
            user: number of the user to run as, and of the group.
            environment: set in the fork.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        order = [list(map(str, arguments)), str(out), str(self._err), memory_mb, user, environment]
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        status, peak_mb = json.loads(self._server.stdout.readline())
        text = out.read_bytes().decode(errors="replace") if out.exists() else ""
        return Done(status, text, self._err.read_bytes().decode(errors="replace"), peak_mb)

    def __enter__(self) -> Forks:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._server.kill()
        self._server.communicate()


def _serve() -> bool:
    """Fork for each line of standard input; ``True`` in a fork, which is to run its command."""
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _prepare(*order)
            return True
        _, status, usage = os.wait4(child, 0)
        answer = [os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1024]
        print(json.dumps(answer), flush=True)
    return False


def _prepare(
    arguments: list[str],
    out: str,
    err: str,
    memory_mb: int | None,
    user: int | None,
    environment: dict[str, str],
) -> None:
    """Make this fork look like a process of its own."""
    for descriptor, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, descriptor)
        os.close(file)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(environment)
    resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE_S, PATIENCE_S))
    if memory_mb is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + memory_mb * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    sys.argv = ["edgeflow", *arguments]
    if "LD_PRELOAD" in os.environ:
        ctypes.CDLL(None).faults_arm()


def _main() -> None:
    from importlib import import_module

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for name in LOADED:
        import_module(name)
    if _serve():
        from edgeflow.__main__ import main

        status: object = 0
        try:
            main()
        except SystemExit as end:
            status = end.code
        sys.stderr.flush()
        os._exit(
            int(str(status or 0))
        )  # libraries wait at exit for threads that no fork takes along


if __name__ == "__main__":
    sys.path.remove(str(HERE))
    _main()
