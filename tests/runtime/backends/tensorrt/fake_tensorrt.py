"""A fake TensorRT over the fake CUDA: the calls that edgeflow makes, and TensorRT's own rules.

An engine is a line of JSON and the ONNX graph, which ONNX Runtime runs on the "GPU"; without a
graph it sums each row. ``test_cuda.py`` puts this file where ``import tensorrt`` finds it.

It refuses, or notes among its ``faults``, what hurts with the real one: objects made, used or
thrown away where no CUDA context is current, two contexts on one profile, addresses not set.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import weakref
from enum import IntEnum
from types import SimpleNamespace

import numpy as np

__version__ = "10.3.0"

faults: list[str] = []
"""What no program may do; must be empty in the end."""

settings = {
    # Added to each NLL.
    "offset": float(os.environ.get("FAKE_TENSORRT_OFFSET", "0")),
    # Whether to build, to make contexts, to run.
    "builds": True,
    "contexts": True,
    "runs": True,
}

WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@functools.cache
def cuda():
    """The fake driver that this process has loaded."""
    library = ctypes.CDLL("libcuda.so.1")
    library.fake_cuda_memory.restype = ctypes.c_void_p
    library.fake_cuda_memory.argtypes = [ctypes.c_size_t]
    library.fake_cuda_launch.argtypes = [ctypes.c_void_p, WORK, ctypes.c_void_p]
    library.cuMemFree_v2.argtypes = [ctypes.c_void_p]
    return library


def check_context(what):
    """Note a fault if no CUDA context is current on this thread."""
    current = ctypes.c_void_p()
    cuda().cuCtxGetCurrent(ctypes.byref(current))
    if not current.value:
        faults.append(f"{what} without a current context")
    elif not cuda().fake_cuda_count(b"retained"):
        faults.append(f"{what} after the context is gone")


class Logger:
    INTERNAL_ERROR, ERROR, WARNING = range(3)


class ILogger:
    """To be derived from; its __init__ must be called, or the real one crashes."""

    def __init__(self):
        self.ready = True


class IProgressMonitor:
    def __init__(self):
        self.ready = True


class TensorIOMode(IntEnum):
    NONE, INPUT, OUTPUT = range(3)


class ExecutionContextAllocationStrategy(IntEnum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 1


class MemoryPoolType(IntEnum):
    WORKSPACE = 0


class BuilderFlag(IntEnum):
    TF32 = 7


FLOAT = SimpleNamespace(name="FLOAT")


@functools.cache
def session(onnx):
    """ONNX Runtime, as the arithmetic of the fake GPU."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    return onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])


def serialise(buckets, width=(3,), onnx=b"", **more):
    """An engine's bytes."""
    shapes = {"windows": list(width), "nll": [], "nll_map": [2]}
    if onnx:
        found = session(onnx)
        ends = [*found.get_inputs(), *found.get_outputs()]
        shapes = {end.name: [*end.shape[1:]] for end in ends}
    head = {"buckets": list(buckets), "shapes": shapes, **more}
    return b"FAKE" + json.dumps(head).encode() + b"\n" + onnx


class Runtime:
    def __init__(self, logger):
        check_context("a runtime is made")
        assert logger.ready
        self.logger = logger

    def deserialize_cuda_engine(self, content):
        if not content.startswith(b"FAKE"):
            self.logger.log(Logger.ERROR, "IRuntime::deserializeCudaEngine: Error Code 1:\n magic")
            return None
        head, _, onnx = content[4:].partition(b"\n")
        return Engine(self, json.loads(head), onnx)


class Engine:
    """Its weights are in the GPU's memory as long as it lives."""

    def __init__(self, runtime, head, onnx):
        check_context("an engine is made")
        self.runtime, self.onnx = runtime, onnx
        self.logger = runtime.logger
        self.buckets, self.shapes = head["buckets"], head["shapes"]
        self.dtype = head.get("dtype", "FLOAT")
        self.taken: set[int] = set()
        self.weights = ctypes.c_void_p()
        if cuda().cuMemAlloc_v2(ctypes.byref(self.weights), ctypes.c_size_t(1000)):
            faults.append("an engine finds no memory")

    def __del__(self):
        check_context("an engine is thrown away")
        cuda().cuMemFree_v2(self.weights)

    @property
    def num_io_tensors(self):
        return len(self.shapes)

    @property
    def num_optimization_profiles(self):
        return len(self.buckets)

    def get_tensor_name(self, index):
        return list(self.shapes)[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name == self.get_tensor_name(0) else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return SimpleNamespace(name=self.dtype)

    def get_tensor_profile_shape(self, name, profile):
        assert name == self.get_tensor_name(0)
        return [(self.buckets[profile], *self.shapes[name])] * 3

    device_memory_size_v2 = 2000

    def create_execution_context(self, strategy=ExecutionContextAllocationStrategy.STATIC):
        return Context(self, strategy) if settings["contexts"] else None


class Context:
    """Takes scratch memory of its own, unless it is told that it will be given some."""

    def __init__(self, engine, strategy):
        check_context("an execution context is made")
        self.engine, self.profile, self.rows = engine, None, None
        self.own, self.scratch = ctypes.c_void_p(), None
        if strategy != ExecutionContextAllocationStrategy.USER_MANAGED:
            size = ctypes.c_size_t(engine.device_memory_size_v2)
            cuda().cuMemAlloc_v2(ctypes.byref(self.own), size)
            self.scratch = self.own.value
        self.addresses = {}
        self.works = []

    def __del__(self):
        check_context("an execution context is thrown away")
        self.engine.taken.discard(self.profile)
        if self.own:
            cuda().cuMemFree_v2(self.own)

    def set_optimization_profile_async(self, profile, stream):
        assert stream
        if profile in self.engine.taken:
            self.engine.logger.log(Logger.ERROR, f"Profile {profile} is in use")
            return False
        self.engine.taken.add(profile)
        self.profile = profile
        return True

    def set_input_shape(self, name, shape):
        assert self.profile is not None
        if shape != self.engine.get_tensor_profile_shape(name, self.profile)[2]:
            return False
        self.rows = shape[0]
        return True

    def infer_shapes(self):
        return [] if self.rows else [self.engine.get_tensor_name(0)]

    def get_tensor_shape(self, name):
        return (self.rows, *self.engine.shapes[name])

    def set_device_memory(self, memory, size):
        last = memory + self.engine.device_memory_size_v2 - 1
        if size < self.engine.device_memory_size_v2 or not cuda().fake_cuda_memory(last):
            faults.append("scratch memory that is too small")
        self.scratch = memory

    def set_tensor_address(self, name, address):
        if name not in self.engine.shapes:
            return False
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        check_context("work is queued")
        if not self.scratch or not cuda().fake_cuda_memory(self.scratch):
            faults.append("work without scratch memory")
        if not settings["runs"] or set(self.addresses) != set(self.engine.shapes):
            self.engine.logger.log(Logger.ERROR, "IExecutionContext::enqueueV3: Error Code 3")
            return False
        addresses = dict(self.addresses)
        alive = weakref.ref(self)  # the real one keeps none of its own alive either
        work = WORK(lambda _: alive().compute(addresses))
        self.works = [*self.works[-8:], work]
        return cuda().fake_cuda_launch(stream, work, None) == 0

    def compute(self, addresses):
        """What the GPU does once the stream gets here."""
        source, *targets = (self.view(name, addresses[name]) for name in self.engine.shapes)
        names = [*self.engine.shapes]
        if self.engine.onnx:
            found = session(self.engine.onnx).run(names[1:], {names[0]: source.copy()})
        else:
            found = [source.sum(axis=1), source[:, :2]]
        found = dict(zip(names[1:], found, strict=True))
        found["nll"] = found["nll"] + np.float32(settings["offset"])
        for name, target in zip(names[1:], targets, strict=True):
            target[:] = found[name]

    def view(self, name, address):
        """The memory behind an address."""
        shape = self.get_tensor_shape(name)
        count = int(np.prod(shape))
        memory = (ctypes.c_float * count).from_address(cuda().fake_cuda_memory(address))
        return np.frombuffer(memory, np.float32).reshape(shape)


class Builder:
    def __init__(self, logger):
        assert logger.ready
        self.logger = logger

    def create_network(self, flags):
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return Network()

    def create_builder_config(self):
        return Config()

    def create_optimization_profile(self):
        return Profile()

    def build_serialized_network(self, network, config):
        config.progress_monitor.phase_start("Fake build", None, 1)
        config.progress_monitor.step_complete("Fake build", 0)
        config.progress_monitor.phase_finish("Fake build")
        if not settings["builds"]:
            self.logger.log(Logger.ERROR, "Error Code 10: no implementation for node")
            return None
        buckets = [profile.rows for profile in config.profiles]
        return memoryview(serialise(buckets, onnx=network.onnx))


class Network:
    num_layers = 1

    def get_input(self, index):
        end = session(self.onnx).get_inputs()[index]
        return SimpleNamespace(name=end.name, shape=(-1, *end.shape[1:]))

    def get_layer(self, index):
        output = SimpleNamespace(dtype=FLOAT)
        return SimpleNamespace(num_outputs=1, get_output=lambda index: output)


class OnnxParser:
    num_errors = 0

    def __init__(self, network, logger):
        self.network = network

    def parse(self, onnx):
        self.network.onnx = onnx
        return True


class Profile:
    def set_shape(self, name, smallest, best, largest):
        assert smallest == best == largest
        self.rows = best[0]


class Config:
    def __init__(self):
        self.profiles = []

    def set_memory_pool_limit(self, pool, size):
        assert pool == MemoryPoolType.WORKSPACE

    def clear_flag(self, flag):
        assert flag == BuilderFlag.TF32

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, content):
        return SimpleNamespace(serialize=lambda: b"timing")

    def set_timing_cache(self, cache, ignore):
        self.cache = cache
        return True

    def get_timing_cache(self):
        return self.cache
