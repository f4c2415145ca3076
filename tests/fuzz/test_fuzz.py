"""Whatever is read: an ``EdgeflowError`` or a proper result, soon, and nothing else."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import NAMES
from tests.fuzz.harnesses import HARNESSES
from tests.fuzz.plain import changed, corpus, first_fault

CHANGES = {"bundle": 300, "edited_bundle": 300, "graph": 200, "manifest": 300, "pipe": 1500}
"""How many changes of its corpus each harness is tried with; those that are not named 700."""


def test_each_harness_is_fuzzed():
    assert set(NAMES) == set(HARNESSES)


@pytest.mark.parametrize("name", NAMES)
def test_every_case_that_was_ever_found(name: str):
    for path in corpus(name):
        fault = first_fault(name, [path.read_bytes()])
        assert fault is None, f"{path.name}: {fault[1]}"


@pytest.mark.parametrize("name", NAMES)
def test_changes_of_the_corpus(name: str):
    seeds = [path.read_bytes() for path in corpus(name)]
    cases = list(changed(seeds, CHANGES.get(name, 700), seed=8))
    fault = first_fault(name, cases)
    assert fault is None, f"{len(fault[0])} bytes, {fault[0][:200]!r}: {fault[1]}"
