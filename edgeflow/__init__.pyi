"""What the front door gives, for type checkers and editors; see ``__init__.py``."""

from edgeflow.dataset import Dataset as Dataset
from edgeflow.dataset import Machine as Machine
from edgeflow.evaluation import evaluate as evaluate
from edgeflow.evaluation_result import Evaluation as Evaluation
from edgeflow.recordings.planning import plan_recordings as plan_recordings
from edgeflow.recordings.writing import write_recordings as write_recordings
from edgeflow.training.run import TrainedRun as TrainedRun
from edgeflow.training.train import train as train
from edgeflow_export.bundle_from_run import Exported as Exported
from edgeflow_export.bundle_from_run import export as export
from edgeflow_runtime.bundle import Bundle as Bundle
from edgeflow_runtime.errors import EdgeflowError as EdgeflowError
from edgeflow_runtime.scorer import Scorer as Scorer
from edgeflow_runtime.verdicts import ClipResult as ClipResult

__version__: str
