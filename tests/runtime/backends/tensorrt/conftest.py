"""A GPU that is none, and a driver that is none: fakes, named so."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections import deque

import numpy as np
import pytest

from edgeflow_runtime.backends.tensorrt.gpu_worker import Slot


class FakeGpu:
    """A device that works as late as a real one may: nothing happens until it is waited for.

    Copies in, work and copies back stand in a queue like on a CUDA stream and run only when a later
    ``wait`` needs them. Whoever overwrites a buffer too early, or reads one too soon, gets NaN or
    another batch's numbers. Every method checks that it is called on one and the same thread.
    """

    name = "fake GPU"

    def __init__(self, graph, width, buckets=(1, 4, 8), outputs=None, dtype=np.float32):
        self.graph, self.width, self.buckets = graph, width, buckets
        self.dtype = dtype
        self.outputs = outputs or {"nll": (), "nll_map": (2,)}
        self.stream = deque()
        self.slots, self.batches, self.flying, self.most_flying = [], [], 0, 0
        self.opened = self.closed = 0
        self.thread = None
        self.fail_open = self.fail_launch = self.fail_wait = None

    def _here(self):
        thread = threading.get_ident()
        self.thread = self.thread or thread
        assert thread == self.thread, "CUDA would say: invalid device context"

    def open(self):
        self._here()
        self.opened += 1
        if self.fail_open:
            raise self.fail_open

    def allocate(self):
        self._here()
        largest = self.buckets[-1]
        host = {n: np.full((largest, *s), np.nan, np.float32) for n, s in self.outputs.items()}
        slot = Slot(np.zeros((largest, *self.width), self.dtype), host, resources={})
        self.slots.append(slot)
        return slot

    def launch(self, slot, bucket, outputs):
        self._here()
        assert bucket in self.buckets
        if self.fail_launch:
            raise self.fail_launch
        self.batches.append(bucket)
        self.flying += 1
        self.most_flying = max(self.most_flying, self.flying)
        for name in self.outputs:
            slot.outputs[name][:] = np.nan
        memory = {}
        self.stream.append((slot, lambda: memory.update(rows=slot.input[:bucket].copy())))
        self.stream.append((slot, lambda: memory.update(self.graph(memory["rows"]))))
        for name in outputs:
            self.stream.append(
                (slot, lambda n=name: np.copyto(slot.outputs[n][:bucket], memory[n]))
            )

    def wait(self, slot):
        self._here()
        if self.fail_wait:
            raise self.fail_wait
        last = max(i for i, (owner, _) in enumerate(self.stream) if owner is slot)
        for _ in range(last + 1):
            self.stream.popleft()[1]()
        self.flying -= 1

    def close(self):
        self._here()
        self.closed += 1


def sum_graph(rows):
    """The graph that most tests run: sums, and the first two values as a map."""
    flat = rows.reshape(len(rows), -1)
    return {"nll": flat.sum(axis=1, dtype=np.float64), "nll_map": flat[:, :2]}


@pytest.fixture
def fake_gpu():
    """The class."""
    return FakeGpu


@pytest.fixture
def summing():
    """The graph."""
    return sum_graph


STUB = r"""
#include <string.h>
int cuInit(unsigned flags) { return %(init)d; }
int cuDriverGetVersion(int *v) { *v = %(version)d; return 0; }
int cuDeviceGet(int *d, int i) { *d = i; return i < 1 ? 0 : 101; }
int cuDeviceGetName(char *s, int n, int d) { strncpy(s, "Orin", n); return 0; }
int cuDeviceTotalMem_v2(size_t *b, int d) { *b = 7990000000u; return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) {
    *v = a == 75 ? 8 : a == 76 ? 7 : a == 18 ? 1 : a == 16 ? 16 : 0; return 0; }
"""


@pytest.fixture
def fake_driver(tmp_path):
    """Compiles a driver's library that answers as told; it can run nothing."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler: apt-get install gcc")

    def make(init=0, version=12060):
        source, library = tmp_path / "fake_cuda.c", tmp_path / f"libfakecuda{init}_{version}.so.1"
        source.write_text(STUB % {"init": init, "version": version})
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
        return str(library)

    return make
