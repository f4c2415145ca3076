"""Everything that can go wrong, named.

::

    EdgeflowError
    ├── AudioError            a sound that cannot be listened to
    ├── ConfigError           a setting, or a document of settings, that makes no sense
    ├── DataError             a data set that cannot be used as asked
    ├── BundleError           a bundle that cannot be trusted or read
    │   ├── BundleVersionError    written by a newer edgeflow
    │   └── BundleIntegrityError  truncated, edited or incomplete
    ├── BackendError          the inference engine refused
    │   ├── DeviceError           no GPU, no driver, or one that does not fit
    │   └── EngineError           an engine that cannot be built, is damaged, stale or foreign
    │       └── ProofError            an engine that does not give the golden scores
    ├── ScoreError            a score that is not a finite number
    ├── TrainingError         training cannot start or go on
    │   └── DamagedRunError       a file of a run or of the pre-training cache is damaged
    ├── ExportError           a flow that may not become a bundle
    │   ├── OperatorError         an operator that TensorRT does not take
    │   ├── ParityError           exported and trained scores differ
    │   └── PrecisionError        a precision costs more than the gate allows
    ├── MissingExtraError     a package of an extra is not installed
    └── StorageError          the disk refused a write

The command line prints the message of any of these as one line and exits with 2.
"""

from __future__ import annotations


class EdgeflowError(Exception):
    """Root of all errors that edgeflow raises on purpose."""


class AudioError(EdgeflowError):
    """A sound that cannot be listened to: missing, damaged, silent, clipped or too short."""


class ConfigError(EdgeflowError):
    """A setting, or a document of settings, that makes no sense."""


class DataError(EdgeflowError):
    """A data set that cannot be used as asked."""


class BundleError(EdgeflowError):
    """A bundle that cannot be trusted or read."""


class BundleVersionError(BundleError):
    """A bundle written by a newer edgeflow."""


class BundleIntegrityError(BundleError):
    """A bundle that is truncated, edited or incomplete."""


class BackendError(EdgeflowError):
    """The inference engine refused to load or to run."""


class DeviceError(BackendError):
    """There is no GPU, no driver or no TensorRT, or they do not fit each other."""


class EngineError(BackendError):
    """An engine that cannot be built, or is damaged, stale or another machine's."""


class ProofError(EngineError):
    """A new engine that does not give the golden scores."""


class ScoreError(EdgeflowError):
    """A score that is not a finite number: a fault, never a verdict."""


class TrainingError(EdgeflowError):
    """Training cannot start or cannot go on."""


class DamagedRunError(TrainingError):
    """A file of a run, or of the pre-training cache, is missing or damaged."""


class ExportError(EdgeflowError):
    """A flow that may not become a bundle."""


class OperatorError(ExportError):
    """An exported graph holds an operator that TensorRT does not take."""


class ParityError(ExportError):
    """The exported graph and the trained flow disagree."""


class PrecisionError(ExportError):
    """A reduced precision changes scores, ranks or verdicts more than the gate allows."""


class MissingExtraError(EdgeflowError):
    """A package that belongs to an extra is not installed."""


class StorageError(EdgeflowError):
    """The disk refused a write; nothing half-written was left behind."""
