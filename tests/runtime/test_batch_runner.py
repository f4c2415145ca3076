"""Rows through a backend: the threads that feed it are started once, stopped once, and forked."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edgeflow_runtime.backends.protocol import processors
from edgeflow_runtime.batch_runner import BatchRunner
from edgeflow_runtime.clip_reader import Clip
from edgeflow_runtime.errors import BackendError


class FakeBackend:
    """A fake: the NLL of a row is its first value, its map the row."""

    name = "fake"

    def __init__(self, device: str = "cpu") -> None:
        self.device, self.batch, self.workers = device, 4, 2
        self.batches: list[int] = []
        self.closed = 0

    def nll(self, rows: np.ndarray) -> np.ndarray:
        self.batches.append(len(rows))
        return rows[:, 0]

    def nll_map(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(params=["cpu", "a GPU"])
def runner(request: pytest.FixtureRequest) -> Iterator[BatchRunner]:
    made = BatchRunner(FakeBackend(request.param))
    yield made
    made.close()


ROWS = np.arange(20.0, dtype=np.float32).reshape(10, 2)


def threads() -> set[threading.Thread]:
    return {it for it in threading.enumerate() if it.name.startswith("edgeflow-")}


def test_the_threads_are_started_once_and_end_with_it(runner: BatchRunner):
    before = threads()
    pools = runner._pool, runner._readers
    for _ in range(3):
        runner.run(ROWS)
        list(runner.map_ahead(str, range(9)))
    assert (runner._pool, runner._readers) == pools
    own = threads() - before  # others' may end meanwhile
    assert own
    runner.close()
    assert not any(thread.is_alive() for thread in own)
    assert runner.backend.closed == 1


def test_only_a_gpu_leaves_the_cores_to_the_readers(runner: BatchRunner):
    assert (runner._readers is runner._pool) == (runner.backend.device == "cpu")


def test_rows_are_cut_into_batches_and_put_together(runner: BatchRunner):
    np.testing.assert_array_equal(runner.run(ROWS), ROWS[:, 0])
    np.testing.assert_array_equal(runner.run(ROWS, maps=True), ROWS)
    assert sorted(runner.backend.batches) == [2, 4, 4]


def test_clips_share_batches_and_keep_their_order(runner: BatchRunner):
    sizes = [3, 0, 9, 1, 4, 0, 2]
    clips = [Clip(str(k)) for k in range(len(sizes))]

    def rows_of(clip: Clip) -> np.ndarray:
        size = sizes[int(clip.name)]
        return np.full((size, 2), int(clip.name), np.float32)

    found = list(runner.run_clips(clips, rows_of, maps=False))
    assert [clip.name for clip, _ in found] == [clip.name for clip in clips]
    for (clip, nll), size in zip(found, sizes, strict=True):
        assert (nll is None) == (size == 0)
        if nll is not None:
            assert nll.tolist() == [int(clip.name)] * size
    assert sorted(runner.backend.batches) == [3, 4, 4, 4, 4]
    ((_, whole),) = runner.run_clips(clips[2:3], rows_of, maps=True)
    assert whole is not None
    assert whole.shape == (9, 2)


def test_results_come_before_all_clips_are_read(runner: BatchRunner):
    taken = []

    def endless() -> Iterator[Clip]:
        for k in range(1000):
            taken.append(k)
            yield Clip(str(k))

    found = runner.run_clips(endless(), lambda _: ROWS[:4], maps=False)
    assert [next(found)[0].name for _ in range(3)] == ["0", "1", "2"]
    # 2 batches a worker may be under way, and the one that is handed over
    assert len(taken) == 2 * runner.backend.workers + 3


def test_reading_ahead_keeps_the_order_and_its_bound(runner: BatchRunner):
    taken = []

    def items() -> Iterator[int]:
        for k in range(1000):
            taken.append(k)
            yield k

    found = runner.map_ahead(lambda k: k * k, items())
    assert [next(found) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(taken) == 2 * max(runner.backend.workers, processors()) + 5
    assert list(runner.map_ahead(str, range(3))) == ["0", "1", "2"]


def in_a_child(work: Callable[[BatchRunner], None], runner: BatchRunner) -> int | None:
    child = multiprocessing.get_context("fork").Process(target=work, args=(runner,))
    child.start()
    child.join(20)
    child.kill()
    return child.exitcode


def score_and_close(runner: BatchRunner) -> None:
    assert runner.run(ROWS).tolist() == ROWS[:, 0].tolist()
    assert threads()
    runner.close()
    assert runner.backend.closed == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("work", [score_and_close, BatchRunner.close])
def test_a_forked_child_has_threads_of_its_own_and_closes(runner: BatchRunner, work):
    runner.run(ROWS)
    assert in_a_child(work, runner) == 0
    assert runner.run(ROWS).tolist() == ROWS[:, 0].tolist()


def test_what_is_closed_says_so(runner: BatchRunner):
    begun = runner.map_ahead(str, range(1000))
    next(begun)
    runner.close()
    for use in (
        lambda: runner.run(ROWS),
        lambda: list(runner.run_clips([Clip("a")], lambda _: ROWS, maps=False)),
        lambda: list(runner.map_ahead(str, [1])),
        lambda: list(begun),
    ):
        with pytest.raises(BackendError, match=r"^the monitor is closed$"):
            use()


def test_a_fault_of_the_backend_passes_as_it_is(runner: BatchRunner):
    def broken(_: np.ndarray) -> np.ndarray:
        raise RuntimeError("of its own")

    runner.backend.nll = broken
    for use in (
        lambda: runner.run(ROWS),
        lambda: list(runner.run_clips([Clip("a")], lambda _: ROWS, maps=False)),
        lambda: list(runner.map_ahead(broken, [ROWS])),
    ):
        with pytest.raises(RuntimeError, match="of its own"):
            use()
