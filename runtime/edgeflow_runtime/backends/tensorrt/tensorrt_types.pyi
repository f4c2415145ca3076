"""Every attribute of TensorRT's Python module and objects that edgeflow may use, for type checkers.

Each is in the bindings of TensorRT 10.3.0 (JetPack 6.2) and of 11.4.0.106, read there name by name,
and in those of TensorRT-RTX; what :class:`AheadOfTimeConfig` adds is in the latter alone. A call of
anything else is an error of the type checker's.
"""

from collections.abc import Sequence
from typing import Protocol

class TensorRt(Protocol):
    """The module ``tensorrt`` or ``tensorrt_rtx``."""

    __version__: str
    Builder: type[Builder]
    BuilderFlag: type[BuilderFlag]
    ExecutionContextAllocationStrategy: type[ExecutionContextAllocationStrategy]
    ILogger: type[ILogger]
    IProgressMonitor: type[IProgressMonitor]
    Logger: type[Logger]
    MemoryPoolType: type[MemoryPoolType]
    NetworkDefinitionCreationFlag: type[NetworkDefinitionCreationFlag]
    OnnxParser: type[OnnxParser]
    Runtime: type[Runtime]
    TensorIOMode: type[TensorIOMode]

class AheadOfTime(TensorRt, Protocol):
    ComputeCapability: object

class BuilderFlag:
    TF32: int

class ExecutionContextAllocationStrategy:
    USER_MANAGED: int

class Logger:
    ERROR: int
    INTERNAL_ERROR: int

class MemoryPoolType:
    WORKSPACE: int

class NetworkDefinitionCreationFlag:
    STRONGLY_TYPED: int

class TensorIOMode:
    INPUT: int

class ILogger:
    def __init__(self) -> None: ...

class IProgressMonitor:
    def __init__(self) -> None: ...

class Builder:
    def __init__(self, logger: ILogger) -> None: ...
    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> bytes | None: ...
    def create_builder_config(self) -> IBuilderConfig: ...
    def create_network(self, flags: int) -> INetworkDefinition: ...
    def create_optimization_profile(self) -> IOptimizationProfile: ...

class IBuilderConfig:
    progress_monitor: IProgressMonitor
    def add_optimization_profile(self, profile: IOptimizationProfile) -> int: ...
    def clear_flag(self, flag: int) -> None: ...
    def create_timing_cache(self, content: bytes) -> ITimingCache | None: ...
    def get_timing_cache(self) -> ITimingCache: ...
    def set_memory_pool_limit(self, pool: int, size: int) -> None: ...
    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool: ...

class AheadOfTimeConfig(IBuilderConfig):
    num_compute_capabilities: int
    def set_compute_capability(self, capability: object, index: int) -> bool: ...

class ITimingCache:
    def serialize(self) -> bytes: ...

class IOptimizationProfile:
    def set_shape(
        self,
        name: str,
        smallest: tuple[int, ...],
        best: tuple[int, ...],
        largest: tuple[int, ...],
    ) -> None: ...

class INetworkDefinition:
    num_layers: int
    def get_input(self, index: int) -> ITensor: ...
    def get_layer(self, index: int) -> ILayer: ...

class ILayer:
    num_outputs: int
    def get_output(self, index: int) -> ITensor: ...

class DataType(Protocol):
    name: str

class ITensor:
    dtype: DataType
    name: str
    shape: Sequence[int]

class OnnxParser:
    num_errors: int
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None: ...
    def get_error(self, index: int) -> ParserError: ...
    def parse(self, onnx: bytes) -> bool: ...

class ParserError:
    def desc(self) -> str: ...
    def node_name(self) -> str: ...
    def node_operator(self) -> str: ...

class Runtime:
    def __init__(self, logger: ILogger) -> None: ...
    def deserialize_cuda_engine(self, content: bytes) -> ICudaEngine | None: ...

class ICudaEngine:
    device_memory_size_v2: int
    num_io_tensors: int
    num_optimization_profiles: int
    def create_execution_context(self, strategy: int) -> IExecutionContext | None: ...
    def get_tensor_dtype(self, name: str) -> DataType: ...
    def get_tensor_mode(self, name: str) -> int: ...
    def get_tensor_name(self, index: int) -> str: ...
    def get_tensor_profile_shape(self, name: str, profile: int) -> Sequence[Sequence[int]]: ...

class IExecutionContext:
    def execute_async_v3(self, stream: int) -> bool: ...
    def get_tensor_shape(self, name: str) -> Sequence[int]: ...
    def infer_shapes(self) -> Sequence[str]: ...
    def set_device_memory(self, address: int, size: int) -> None: ...
    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool: ...
    def set_optimization_profile_async(self, profile: int, stream: int) -> bool: ...
    def set_tensor_address(self, name: str, address: int) -> bool: ...
