"""The GPU worker over a fake device: buffers, order, threads, forks, asyncio, shutdown, faults."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow_runtime.backends.tensorrt.gpu_worker import SLOTS, GpuWorker
from edgeflow_runtime.errors import BackendError, DeviceError, EngineError


@pytest.fixture
def device(fake_gpu, summing):
    return fake_gpu(summing, (3,))


@pytest.fixture
def worker(device):
    worker = GpuWorker(device)
    yield worker
    worker.close()


def rows(n, start=0):
    return np.arange(start, start + 3 * n, dtype=np.float32).reshape(n, 3)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 8, 9, 31])
def test_any_number_of_rows_comes_back_whole(worker, count):
    nll, nll_map = worker.submit(rows(count), ("nll", "nll_map")).result(5)
    np.testing.assert_array_equal(nll, rows(count).sum(axis=1))
    np.testing.assert_array_equal(nll_map, rows(count)[:, :2])


def test_batches_take_the_smallest_profile_that_holds_them(worker, device):
    for count in (1, 3, 4, 5, 8, 9):
        worker.submit(rows(count), ("nll",)).result(5)
    assert device.batches == [1, 4, 4, 8, 8, 8, 1]


def test_two_batches_fly_at_once_in_buffers_made_once(worker, device, summing):
    submitted = threading.Event()
    device.graph = lambda batch: (submitted.wait(5), summing(batch))[1]
    futures = [worker.submit(rows(8, i), ("nll",)) for i in range(50)]
    submitted.set()
    for i, future in enumerate(futures):
        np.testing.assert_array_equal(future.result(5)[0], rows(8, i).sum(axis=1))
    assert device.most_flying == SLOTS == len(device.slots) == 2


def test_what_fills_a_batch_up_is_not_what_came_before(fake_gpu):
    seen = []
    device = fake_gpu(
        lambda batch: (seen.append(batch), {"nll": batch.sum(axis=1), "nll_map": batch[:, :2]})[1],
        (3,),
        buckets=(4,),
    )
    worker = GpuWorker(device)
    worker.submit(np.full((4, 3), np.inf, np.float32), ("nll",)).result(5)
    worker.submit(np.full((4, 3), np.inf, np.float32), ("nll",)).result(5)
    worker.submit(rows(1), ("nll",)).result(5)
    worker.close()
    assert (seen[-1][1:] == 0).all()


def test_outputs_that_nobody_asked_for_are_not_copied_back(worker, device):
    worker.submit(rows(2), ("nll",)).result(5)
    assert np.isnan(device.slots[0].outputs["nll_map"]).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.integers(1, 6))
def test_order_and_content_hold_from_many_threads(sizes, threads):
    import importlib.util
    import pathlib

    spec = importlib.util.spec_from_file_location(
        "fakes", pathlib.Path(__file__).with_name("conftest.py")
    )
    fakes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fakes)
    worker = GpuWorker(fakes.FakeGpu(fakes.sum_graph, (3,)))
    try:
        with ThreadPoolExecutor(threads) as pool:
            jobs = [rows(size, 1000 * i) for i, size in enumerate(sizes)]
            found = list(pool.map(lambda job: worker.submit(job, ("nll",)).result(5)[0], jobs))
    finally:
        worker.close()
    for job, nll in zip(jobs, found, strict=True):
        np.testing.assert_array_equal(nll, job.sum(axis=1))


def test_asyncio_awaits_it(worker):
    async def score():
        futures = [worker.submit(rows(5, i), ("nll",)) for i in range(10)]
        return await asyncio.gather(*map(asyncio.wrap_future, futures))

    for i, (nll,) in enumerate(asyncio.run(score())):
        np.testing.assert_array_equal(nll, rows(5, i).sum(axis=1))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_after_a_fork_it_says_so(worker):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            worker.submit(rows(1), ("nll",))
            said = "nothing"
        except DeviceError as error:
            said = str(error)
        worker.close()  # must not wait for a thread that is not in this process
        os.write(writer, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    said = os.read(reader, 1000).decode()
    os.close(reader)
    assert "forked" in said
    assert "spawn" in said
    assert worker.submit(rows(1), ("nll",)).result(5)[0] == 3


@pytest.mark.parametrize(
    ("batch", "outputs", "message"),
    [
        (np.zeros((2, 4), np.float32), ("nll",), r"have shape \(2, 4\); the graph takes \(n, 3\)"),
        (np.zeros(3, np.float32), ("nll",), r"have shape \(3,\)"),
        (np.zeros((2, 1), np.float32), ("nll",), r"have shape \(2, 1\)"),  # would be broadcast
        (np.zeros((2, 3)), ("nll",), "rows are float64; the graph takes float32"),
        (np.zeros((2, 3), np.float16), ("nll",), "rows are float16; the graph takes float32"),
        (np.zeros((2, 3), ">f4"), ("nll",), "rows are >f4; the graph takes float32"),
        (np.zeros((0, 3), np.float32), ("nll",), "nothing to run"),
        (np.zeros((2, 3), np.float32), ("nll", "score"), "no output 'score': choose from nll, nll"),
        (np.zeros((2, 3), np.float32), (), "no output is asked for"),
    ],
)
def test_what_a_caller_gets_wrong_is_not_the_gpus_fault(worker, device, batch, outputs, message):
    with pytest.raises(BackendError, match=message) as caught:
        worker.submit(batch, outputs)
    assert "GPU" not in str(caught.value)
    assert device.batches == []
    assert worker.submit(rows(1), ("nll",)).result(5)[0] == 3


def gpu_threads():
    return [thread for thread in threading.enumerate() if thread.name == "edgeflow-gpu"]


def test_a_worker_that_nobody_holds_closes_itself(fake_gpu, summing):
    before = gpu_threads()
    for _ in range(5):
        device = fake_gpu(summing, (3,))
        future = GpuWorker(device).submit(rows(9), ("nll",))
        assert device.closed == 1  # and what was submitted is done
        np.testing.assert_array_equal(future.result(0)[0], rows(9).sum(axis=1))
        gone = weakref.ref(device)
        del device
        assert gpu_threads() == before
        assert gone() is None


def test_a_worker_that_nobody_holds_after_a_fault_is_gone(fake_gpu, summing):
    device = fake_gpu(summing, (3,))
    device.fail_wait = RuntimeError("an illegal address")
    worker = GpuWorker(device)
    assert worker.submit(rows(1), ("nll",)).exception(5)
    with pytest.raises(BackendError, match="failed earlier"):
        worker.submit(rows(1), ("nll",))
    before = weakref.ref(worker)
    del worker
    assert before() is None
    assert device.closed == 1


def wait_until(true):
    deadline = time.monotonic() + 5
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


@pytest.mark.parametrize("how", ["close", "drop"])
def test_a_callback_may_let_it_go(device, how):
    """Callbacks run on the worker's own thread, which cannot wait for itself."""
    workers, failed = [GpuWorker(device)], []
    entered, hold = threading.Event(), threading.Event()
    graph = device.graph
    device.graph = lambda batch: (entered.set(), hold.wait(5), graph(batch))[2]

    def let_go(_):
        try:
            worker = workers.pop()
            if how == "close":
                worker.close()
        except BaseException as error:
            failed.append(error)

    first = workers[0].submit(rows(1), ("nll",))
    assert entered.wait(5)
    first.add_done_callback(let_go)
    later = workers[0].submit(rows(9), ("nll",))
    hold.set()
    assert first.result(5)[0] == 3
    np.testing.assert_array_equal(later.result(5)[0], rows(9).sum(axis=1))
    wait_until(lambda: device.closed == 1)
    assert failed == []


def test_a_device_that_cannot_close_makes_no_noise(device, capsys):
    def fail():
        raise RuntimeError("cuMemFree failed")

    device.close = fail
    worker = GpuWorker(device)
    assert worker.submit(rows(1), ("nll",)).result(5)[0] == 3
    worker.close()
    assert capsys.readouterr() == ("", "")
    with pytest.raises(BackendError, match="failed earlier: the GPU failed: cuMemFree failed"):
        worker.submit(rows(1), ("nll",))


def test_close_finishes_what_was_submitted_and_lets_go(worker, device):
    futures = [worker.submit(rows(8), ("nll",)) for _ in range(20)]
    worker.close()
    worker.close()
    assert all(future.done() for future in futures)
    assert (device.opened, device.closed) == (1, 1)
    with pytest.raises(BackendError, match="closed"):
        worker.submit(rows(1), ("nll",))


def test_a_device_that_cannot_open_raises_here(device):
    device.fail_open = EngineError("foreign engine")
    with pytest.raises(EngineError, match="foreign engine"):
        GpuWorker(device)
    assert device.closed == 1


@pytest.mark.parametrize("stage", ["fail_launch", "fail_wait"])
def test_after_a_fault_every_call_fails_with_its_cause(worker, device, stage):
    worker.submit(rows(1), ("nll",)).result(5)
    entered, hold = threading.Event(), threading.Event()
    graph = device.graph
    device.graph = lambda batch: (entered.set(), hold.wait(5), graph(batch))[2]
    before = worker.submit(rows(1), ("nll",))
    assert entered.wait(5)
    setattr(device, stage, RuntimeError("cuStreamSynchronize failed:\n an illegal address"))
    after = [worker.submit(rows(8), ("nll",)) for _ in range(3)]
    hold.set()
    for future in after:
        with pytest.raises(BackendError, match="illegal address") as caught:
            future.result(5)
        assert "\n" not in str(caught.value)
    before.exception(5)  # done, one way or the other
    with pytest.raises(BackendError, match="failed earlier"):
        worker.submit(rows(1), ("nll",))
    worker.close()
    assert device.closed == 1


def test_a_cancelled_call_is_passed_over(worker, device):
    entered, hold = threading.Event(), threading.Event()
    graph = device.graph
    device.graph = lambda batch: (entered.set(), hold.wait(5), graph(batch))[2]
    first = worker.submit(rows(1), ("nll",))
    assert entered.wait(5)
    late = worker.submit(rows(1, 7), ("nll",))
    later = [worker.submit(rows(1, 9), ("nll",)) for _ in range(4)]
    assert later[-1].cancel()
    hold.set()
    assert first.result(5)[0] == 3
    assert late.result(5)[0] == rows(1, 7).sum()
    assert later[0].result(5)[0] == rows(1, 9).sum()
    assert len(device.batches) == 5


def test_after_a_fault_cancelled_calls_are_done_and_the_others_know_why(worker, device):
    entered, hold = threading.Event(), threading.Event()
    graph = device.graph
    device.graph = lambda batch: (entered.set(), hold.wait(5), graph(batch))[2]
    worker.submit(rows(1), ("nll",))
    assert entered.wait(5)
    futures = [worker.submit(rows(8), ("nll",)) for _ in range(10)]
    cancelled = [future for future in futures[3:] if future.cancel()]
    device.fail_wait = RuntimeError("an illegal address")
    hold.set()
    done, missing = wait(futures, timeout=5)
    assert not missing
    assert all(future.cancelled() for future in cancelled)
    assert all(future.exception() for future in done - set(cancelled))
