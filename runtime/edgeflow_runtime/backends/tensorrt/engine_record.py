"""What an engine is ordered as, and what stands beside it: of which graph, for what, how proven."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from edgeflow_runtime.backends.names import BUCKETS, ENGINES, FLOW
from edgeflow_runtime.documents import Document
from edgeflow_runtime.errors import ConfigError
from edgeflow_runtime.golden import Replay
from edgeflow_runtime.printable import printable

RECORD_VERSION = 1

WORKSPACE = 512 * 2**20
"""Bytes of workspace if none are asked for."""

COMPILE_CHECK = "compile check with NVIDIA's parser, not a Jetson engine"
"""What an engine is called that was built where there is no GPU to run it."""


@dataclass(frozen=True)
class BuildOrder(Document):
    """What to build, from the command line through to the process that builds."""

    bundle: str
    """Path of the bundle."""
    graph: str = FLOW
    """``flow`` or ``audio``."""
    backend: str = ENGINES[0]
    """``tensorrt`` or ``tensorrt-rtx``."""
    buckets: tuple[int, ...] = ()
    """Batch sizes, each once and ascending: each becomes an optimisation profile."""
    workspace: int = WORKSPACE
    """Bytes that TensorRT may use as workspace."""
    candidate: str = ""
    """Where the engine goes until it is proven."""
    compute_capabilities: tuple[str, ...] = ()
    """To build without a GPU for these, as ``8.6``; none to build for the GPU that is here, and
    prove it."""

    def __post_init__(self) -> None:
        """Batch sizes as they are built: those of :data:`BUCKETS` if none are given."""
        buckets = self.buckets or BUCKETS[self.graph]
        object.__setattr__(self, "buckets", tuple(sorted(set(buckets))))


@dataclass(frozen=True)
class EngineKey(Document):
    """All that an engine depends on: if one of these differs, it must be built anew."""

    backend: str
    """``tensorrt`` or ``tensorrt-rtx``."""
    graph: str
    """``flow`` or ``audio``."""
    onnx: str
    """SHA-256 of the ONNX graph."""
    version: str
    """Version of the TensorRT library."""
    build: int | None
    """Its build number; ``None`` if the library does not tell."""
    gpu: str | None
    """Name of the GPU; ``None`` for an engine that was built without one."""
    compute_capability: str
    """Of the GPU, as ``8.7``; several, with commas between them, if built without one."""
    multiprocessors: int | None
    """Of the GPU, which tells boards of one family apart; ``None`` without a GPU."""
    driver: str | None
    """The newest CUDA that the driver speaks; ``None`` without a GPU."""
    l4t: str | None
    """Release of Jetson Linux; ``None`` elsewhere."""

    def differences(self, other: EngineKey) -> list[str]:
        """Each thing that differs, in words: what ``self`` was built for, and what is here."""
        names = {
            "onnx": "another export of the bundle",
            "version": "TensorRT {}, here is {}",
            "build": "TensorRT's build {}, here is {}",
            "gpu": "the GPU {}, here is {}",
            "compute_capability": "compute capability {}, here is {}",
            "multiprocessors": "{} multiprocessors, here are {}",
            "driver": "a driver of CUDA {}, here is {}",
            "l4t": "Jetson Linux {}, here is {}",
            "backend": "{}, not for {}",
            "graph": "the graph {}, not for {}",
        }
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in names}
        return [
            printable(names[name].format(*("none" if v is None else v for v in pair)))
            for name, pair in pairs.items()
            if pair[0] != pair[1]
        ]


@dataclass(frozen=True)
class EngineRecord(Document):
    """The JSON document beside an engine."""

    record_version: int
    """Version of this document."""
    key: EngineKey
    """What the engine depends on."""
    buckets: tuple[int, ...]
    """Batch sizes, ascending: the engine has one optimisation profile for each, in this order."""
    precision: str
    """Precision of the conditioner networks."""
    layers: dict[str, int]
    """Layers of the parsed network by the type of their output, as read back from TensorRT."""
    workspace: int
    """Bytes that TensorRT was allowed as workspace."""
    seconds: float
    """How long the build took."""
    file: str
    """Name of the engine's file, in the same folder."""
    sha256: str
    """Its hash."""
    proof: Replay | None
    """How it replayed the golden recording; ``None`` if it has never run."""

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ConfigError("'sha256' is none")
        ascending = all(a < b for a, b in pairwise((0, *self.buckets)))
        if not self.buckets or not ascending:
            raise ConfigError(f"batch sizes ascend from at least 1, found {self.buckets}")
        proof = self.proof
        if proof and (proof.buckets != self.buckets or not proof.passed):
            raise ConfigError(f"this proves nothing: {proof}")

    @property
    def label(self) -> str:
        """What it is, in words."""
        return "engine" if self.proof else COMPILE_CHECK
