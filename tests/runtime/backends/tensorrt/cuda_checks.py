"""Programs that run an engine on the fake GPU; ``test_cuda.py`` starts each in its own process.

The fake driver must be there when the process starts, and faults break a process for good. Each
function is one program: ``python cuda_checks.py check_a_fault``, over the fake libcuda.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module

import numpy as np

from edgeflow_runtime.backends.tensorrt.cuda_device import CudaDevice
from edgeflow_runtime.backends.tensorrt.gpu_worker import GpuWorker
from edgeflow_runtime.backends.tensorrt.nvidia_driver import probe_gpu
from edgeflow_runtime.errors import BackendError, DeviceError, EdgeflowError, EngineError

BUCKETS = (1, 4, 8)
BOTH = ("nll", "nll_map")


class Fake:
    """The fake driver and the fake TensorRT of this process."""

    def __init__(self):
        self.trt = import_module("tensorrt")
        self.cuda = self.trt.cuda()

    def count(self, name):
        return self.cuda.fake_cuda_count(name.encode())

    def fail(self, name, after, code):
        self.cuda.fake_cuda_fail(name.encode(), after, code)

    def worker(self, content=None, buckets=BUCKETS):
        content = self.trt.serialise(BUCKETS) if content is None else content
        return GpuWorker(CudaDevice(self.trt, content, buckets, probe_gpu()))

    def check_all_is_given_back(self, others=0):
        """Nothing is left, forgotten or misused; ``others`` hold the primary context."""
        assert self.trt.faults == []
        left = ("device", "pinned", "streams", "events", "lost", "double_frees", "freed_in_flight")
        misused = ("pageable_copies", "without_context", "busy_events")
        found = {name: self.count(name) for name in (*left, *misused)}
        assert not any(found.values()), found
        assert self.count("retained") == others


def rows(n, start=0):
    return np.arange(start, start + 3 * n, dtype=np.float32).reshape(n, 3)


def score(worker, batch):
    """Score rows and check the result."""
    nll, nll_map = worker.submit(batch, BOTH).result(10)
    np.testing.assert_array_equal(nll, batch.sum(axis=1))
    np.testing.assert_array_equal(nll_map, batch[:, :2])


def refusal(kind, call):
    """What ``call`` says when it raises ``kind``: one line."""
    try:
        call()
    except kind as error:
        said = str(error)
    else:
        raise AssertionError(f"no {kind.__name__}")
    assert "\n" not in said, said
    return said


def what_became_of(worker, batch):
    """The error that scoring ends with, whether at once or later; ``None`` if it goes well."""
    try:
        return worker.submit(batch, BOTH).exception(10)
    except BackendError as error:
        return error


def check_batches_of_all_sizes_from_several_threads(fake):
    worker = fake.worker()
    sizes = (1, 2, 4, 5, 8, 9, 31) * 4
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda i: score(worker, rows(sizes[i], 1000 * i)), range(len(sizes))))
    worker.close()
    assert fake.count("calls") > 100
    assert fake.count("threads") == 1
    fake.check_all_is_given_back()


def check_all_contexts_share_one_scratch(fake):
    worker = fake.worker()
    for count in BUCKETS:
        score(worker, rows(count))
    assert fake.count("device") == 1 + 1 + 2 * 3  # the weights, the scratch, two slots of tensors
    worker.close()
    fake.check_all_is_given_back()


def check_a_worker_that_nobody_holds(fake):
    """In a loop, each is gone before the next takes its memory."""
    for i in range(20):
        future = fake.worker().submit(rows(9, i), ("nll",))
        assert fake.count("retained") == 0
        np.testing.assert_array_equal(future.result(0)[0], rows(9, i).sum(axis=1))
    assert [t.name for t in threading.enumerate()] == ["MainThread"]
    fake.check_all_is_given_back()


def check_what_callers_get_wrong_is_not_the_gpus_fault(fake):
    worker = fake.worker()
    for batch, outputs in (
        (rows(2)[:, :2], BOTH),
        (rows(2).astype(np.float64), BOTH),
        (rows(0), BOTH),
        (rows(2), ("score",)),
    ):
        said = refusal(BackendError, partial(worker.submit, batch, outputs))
        assert "GPU" not in said, said
    score(worker, rows(9))
    worker.close()
    fake.check_all_is_given_back()


def check_two_batches_fly(fake):
    worker = fake.worker()
    jobs = [rows(8, i) for i in range(50)]
    futures = [worker.submit(job, ("nll",)) for job in jobs]
    for job, future in zip(jobs, futures, strict=True):
        np.testing.assert_array_equal(future.result(10)[0], job.sum(axis=1))
    worker.close()
    assert fake.count("most_flying") == 2
    fake.check_all_is_given_back()


def check_it_opens_again_and_twice_at_once(fake):
    for _ in range(2):
        first, second = fake.worker(), fake.worker()
        score(first, rows(9))
        first.close()
        score(second, rows(9))
        second.close()
        fake.check_all_is_given_back()


def check_an_engine_of_other_profiles(fake):
    said = refusal(EngineError, lambda: fake.worker(fake.trt.serialise((1, 4, 16))))
    assert said == "profile 2 of the engine takes batches of 16 to 16; its record says 8"
    said = refusal(EngineError, lambda: fake.worker(fake.trt.serialise((1, 4))))
    assert "2 profiles; its record says one input and 3 profiles" in said
    said = refusal(EngineError, lambda: fake.worker(fake.trt.serialise(BUCKETS, dtype="BF16")))
    assert "BF16" in said
    fake.check_all_is_given_back()


def check_an_engine_that_tensorrt_refuses(fake):
    said = refusal(EngineError, lambda: fake.worker(b"garbage"))
    assert said.startswith("TensorRT refuses the engine: IRuntime::deserializeCudaEngine")
    fake.check_all_is_given_back()


def check_a_refusal_comes_once_all_is_given_back(fake):
    """Whoever ends the program on it must not catch the worker amid a call of CUDA's."""

    class Slow(CudaDevice):
        def close(self):
            time.sleep(0.3)
            super().close()

    slow = Slow(fake.trt, b"garbage", BUCKETS, probe_gpu())
    refusal(EngineError, lambda: GpuWorker(slow))
    fake.check_all_is_given_back()


def check_no_memory_for_an_execution_context(fake):
    fake.trt.settings["contexts"] = False
    assert "no memory for a context" in refusal(BackendError, fake.worker)
    fake.check_all_is_given_back()


def check_work_that_tensorrt_refuses(fake):
    worker = fake.worker()
    score(worker, rows(1))
    fake.trt.settings["runs"] = False
    said = refusal(BackendError, lambda: score(worker, rows(4)))
    assert "cannot run a batch of 4: IExecutionContext::enqueueV3" in said
    said = refusal(BackendError, lambda: score(worker, rows(4)))
    assert said.startswith("the GPU failed earlier: TensorRT cannot run a batch of 4")
    worker.close()
    fake.check_all_is_given_back()


def check_an_illegal_address(fake):
    """The context is broken: there is nothing to give back but the context itself."""
    for after in range(len(BUCKETS)):
        fake.fail("cuStreamSynchronize", after, 700)
        assert "illegal memory access" in refusal(BackendError, fake.worker)
        fake.fail("cuStreamSynchronize", 0, 0)
        assert fake.count("retained") == 0
    for call in ("cuEventSynchronize", "cuMemcpyHtoDAsync_v2", "cuEventRecord"):
        worker = fake.worker()
        score(worker, rows(1))
        fake.fail(call, 2, 700)
        with ThreadPoolExecutor(9) as pool:
            jobs = [pool.submit(what_became_of, worker, rows(8)) for _ in range(9)]
        said = [str(job.result()) for job in jobs]
        assert sum("illegal memory access" in line for line in said) >= 6, said
        assert "\n" not in "".join(said)
        assert "failed earlier" in refusal(BackendError, partial(score, worker, rows(1)))
        worker.close()
        fake.fail(call, 0, 0)
        assert fake.trt.faults == []
        assert fake.count("retained") == fake.count("pinned") == fake.count("device") == 0


def hold(fake):
    """Use the primary context as another library would: with memory of its own in it."""
    context, memory, fell = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    fake.cuda.cuInit(0)
    assert fake.cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    assert fake.cuda.cuCtxPushCurrent_v2(context) == 0
    assert fake.cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(64)) == 0

    def let_go():
        assert fake.cuda.cuMemFree_v2(memory) == 0
        assert fake.cuda.cuCtxPopCurrent_v2(ctypes.byref(fell)) == 0

    return let_go


def check_another_user_of_the_primary_context(fake):
    """Nothing of ours may stay in the context that lives on, whatever went wrong."""
    let_go = hold(fake)
    worker = fake.worker()
    score(worker, rows(9))
    worker.close()
    worker = fake.worker()
    fake.trt.settings["runs"] = False
    kept = worker.submit(rows(4), BOTH).exception(10)
    worker.close()
    refusal(EngineError, lambda: fake.worker(b"garbage"))
    let_go()
    assert kept is not None
    fake.check_all_is_given_back(others=1)


def check_every_call_may_fail(fake):
    """At whichever call of CUDA's it happens: one line, and all is given back."""
    let_go = hold(fake)
    kept = []
    opening = {
        "cuDevicePrimaryCtxRetain": 1,
        "cuStreamCreate": 1,
        "cuMemHostAlloc": 2 * 3,
        "cuMemAlloc_v2": 1 + 2 * 3,  # the contexts' scratch, and two slots
        "cuEventCreate": 2,
    }
    for call, times in opening.items():
        for after in range(times):
            skipped = 1 if call == "cuMemAlloc_v2" else 0  # the engine's own memory
            fake.fail(call, after + skipped, 2)
            try:
                fake.worker()
            except EdgeflowError as error:
                kept.append(error)  # with all that its frames hold
            fake.fail(call, 0, 0)
            assert "out of memory" in str(kept[-1]), call
            assert "\n" not in str(kept[-1])
            assert fake.count("pinned") + fake.count("streams") + fake.count("events") == 0, call
            assert fake.count("device") == 1, call
    assert len(kept) == sum(opening.values())
    for call in ("cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuEventRecord"):
        worker = fake.worker()
        fake.fail(call, 1, 1)
        kept += [what_became_of(worker, rows(8)) for _ in range(3)]
        fake.fail(call, 0, 0)
        worker.close()
        assert "invalid argument" in str(kept[-2]), call
        assert "failed earlier" in str(kept[-1]), call
    let_go()
    fake.check_all_is_given_back(others=1)


def check_a_driver_that_is_too_old(fake):
    """Started with a driver that speaks an older CUDA than pycuda's."""
    said = refusal(DeviceError, fake.worker)
    assert "pycuda was built with CUDA" in said
    assert "update the driver" in said
    assert (fake.count("calls"), fake.count("retained")) == (0, 0)


def check_a_driver_that_lacks_functions(fake):
    """Started with one so old that pycuda cannot even be loaded."""
    said = refusal(DeviceError, fake.worker)
    assert "undefined symbol" in said
    assert "build" in said


def check_the_end_without_close(fake):
    """Whoever never closes has a process that ends well."""
    worker = fake.worker()
    score(worker, rows(9))
    for i in range(20):
        worker.submit(rows(8, i), BOTH)  # and nobody waits for them


def check_the_end_after_a_fault(fake):
    """As above, with a fault, and the program's own error at last."""
    worker = fake.worker()
    fake.fail("cuEventSynchronize", 3, 700)
    found = [what_became_of(worker, rows(8, i)) for i in range(20)]
    assert isinstance(found[-1], BackendError)


def check_after_a_fork(fake):
    worker = fake.worker()
    score(worker, rows(1))
    child = os.fork()
    if child == 0:
        assert "forked" in refusal(DeviceError, lambda: score(worker, rows(1)))
        worker.close()
        del worker
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    score(worker, rows(9))
    worker.close()
    fake.check_all_is_given_back()


def check_a_fork_before_it_is_opened(fake):
    child = os.fork()
    if child == 0:
        worker = fake.worker()
        score(worker, rows(9))
        worker.close()
        fake.check_all_is_given_back()
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def check_threads_that_end_leave_it_be(fake):
    """Opened on one thread, used on a second, closed on a third."""
    made = []
    for step in (
        lambda: made.append(fake.worker()),
        lambda: score(made[0], rows(9)),
        lambda: made[0].close(),
    ):
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
    fake.check_all_is_given_back()


if __name__ == "__main__":
    globals()[sys.argv[1]](Fake())
