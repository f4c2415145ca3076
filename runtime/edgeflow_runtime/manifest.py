"""What a bundle says of itself: the manifest, strictly typed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from edgeflow_runtime.audio import Intake
from edgeflow_runtime.documents import Document
from edgeflow_runtime.errors import ConfigError
from edgeflow_runtime.logmel import LogMelSpec
from edgeflow_runtime.printable import quoted
from edgeflow_runtime.views import ViewSpec
from edgeflow_runtime.whole_clips import AudioGraph

FORMAT_VERSION = 4
"""The newest bundle format that this edgeflow reads, and the one it writes; see :func:`upgraded`
for what the older ones called by other names."""

RENAMED = {"monitor": "machine", "window": "view", "wider": "overrides"}
"""Keys of formats 1 and 2, and what they are called since."""

LONGEST_NAME = 100
"""Characters of a machine's type, and of its id."""

WORD = re.compile(r"[\w-]+")
"""What a machine is called that gets its name here: file names hold it between underscores."""

SCORE_UNIT = "nats per dimension of the standardised log-Mel window"


@dataclass(frozen=True)
class MachineId(Document):
    """Which machine a monitor listens to."""

    machine_type: str
    """For example ``fan``."""
    machine_id: str
    """For example ``00``; empty for a whole type."""

    def __post_init__(self) -> None:
        for text in (self.machine_type, self.machine_id):
            if not text.isprintable() or len(text) > LONGEST_NAME or "/" in text:
                raise ConfigError(
                    f"a machine's type and id have at most {LONGEST_NAME} characters that can be "
                    f"printed, and no '/', found {quoted(text)}"
                )

    @property
    def name(self) -> str:
        """For example ``fan_id_00``; of a whole type ``fan``."""
        return f"{self.machine_type}_id_{self.machine_id}" if self.machine_id else self.machine_type

    @property
    def is_type(self) -> bool:
        """Whether all machines of the type are meant, as of a base."""
        return not self.machine_id


@dataclass(frozen=True)
class Features(Document):
    """What the monitor is fed."""

    bands: int
    """Mel bands per frame."""
    min_rate_hz: int
    """The lowest rate among the training recordings. Faster ones are brought down to it first,
    slower ones cannot be judged. 0 for arrays."""
    channel: int | None
    """The channel it learned from where recordings have several; the first is 0."""
    logmel: LogMelSpec | None
    """How log-Mel is computed; ``None`` if the monitor was trained on arrays made elsewhere."""

    def intake(self, channel: int | None) -> Intake | None:
        """How sound is taken in, ``channel`` if one is chosen; ``None`` where arrays are."""
        spec = self.logmel
        if spec is None:
            return None
        return Intake(spec.rate_hz, self.min_rate_hz, channel, self.channel, spec.fewest)


@dataclass(frozen=True)
class Threshold(Document):
    """Where normal ends, and how that was decided."""

    value: float
    """Clips that score above it are anomalous; in nats per dimension."""
    method: str
    """How it was set, in words."""
    false_alarm_probability: float
    """The share of normal clips expected above it."""
    heldout_clips: int
    """Normal clips that were not learned, from whose scores it was set."""
    clip_seconds: float
    """Length of those clips in seconds; scores of much shorter clips vary more. 0 for arrays."""
    rate_low: float | None = None
    """The rate that it really gives lies with 90 % confidence above this; ``None`` if unknown."""
    rate_high: float | None = None
    """And below this."""
    least: float | None = None
    """The score of the likeliest sound, from which distances are taken; ``None`` if unknown."""
    usual_spread: float | None = None
    """How far the logarithms of these distances usually spread in this kind of model; ``None`` if
    unknown."""


@dataclass(frozen=True)
class Training(Document):
    """Where the flow comes from."""

    model: str
    """For example ``glow``."""
    loss: str
    """``nll``, ``eq4`` or ``eq5``."""
    epochs: int
    """Epochs trained."""
    seed: int
    """Seed of everything random in it."""
    target_clips: int
    """Clips of the machine that it learned from."""
    outlier_clips: int
    """Clips of other machines of the type that it was kept away from."""
    outlier_ceiling: float | None
    """c of equations (4) and (5) in nats per dimension; ``None`` for plain NLL."""
    versions: dict[str, str]
    """Versions of the packages that made it."""


@dataclass(frozen=True)
class Tolerances(Document):
    """How far a replay of the golden recording may be off."""

    logmel_db: float
    """Largest difference of a log-Mel value, in dB."""
    nll: float
    """Largest difference of a window's NLL, in nats per dimension."""


@dataclass(frozen=True)
class Gate(Document):
    """How near the graph in its precision came to the float32 graph, on clips it did not learn."""

    clips: int
    """Clips that were compared."""
    anomalous: int
    """How many of them are labelled anomalous."""
    windows: int
    """Windows of these clips."""
    auc_change: float | None
    """Absolute change of the AUC; ``None`` where no clip is labelled anomalous."""
    spearman: float
    """Rank correlation of the clips' scores; of fewer than 23 clips, or that of the NLLs of all
    their windows if it is lower."""
    flips: float
    """Share of the clips whose verdict changed."""
    nll_change: float
    """Largest change of a window's NLL, in nats per dimension."""
    heldout_change: float
    """The same on the held-out normal clips alone; the tolerance of a replay is twice that."""
    heldout_spread: float
    """Standard deviation of the NLL over the windows of these, in nats per dimension."""


@dataclass(frozen=True)
class Enrolment(Document):
    """What a base lends, or an enrolled machine borrowed."""

    sisters: dict[str, int]
    """Clips of each sister, by name."""
    clips: int
    """Clips of the machine's own; 0 of a base."""
    blend: float
    """The share of the covariance that is the sisters'."""
    unlike: tuple[str, ...]
    """In what the machine is unlike them, ``mean`` or ``spread``; it then borrowed nothing."""


@dataclass(frozen=True)
class Manifest(Document):
    """The whole of ``manifest.json``."""

    format_version: int
    """Version of the bundle's format."""
    machine: MachineId
    """Which machine."""
    features: Features
    """What it is fed."""
    view: ViewSpec
    """What the model sees of a clip."""
    precision: str
    """Precision of the conditioner networks, written in the graph: ``fp32``, ``fp16`` or
    ``int8``."""
    score_unit: str
    """Unit of every score and threshold."""
    threshold: Threshold
    """Where normal ends."""
    training: Training
    """Where the flow comes from."""
    tolerances: Tolerances
    """How far a replay may be off."""
    members: dict[str, str]
    """SHA-256 of each other member of the bundle, by name."""
    overrides: dict[str, str] = field(default_factory=dict)
    """Conditioner networks, by number from 0, that could not bear that precision, and theirs."""
    gate: Gate | None = None
    """What the reduced precision costs; ``None`` for ``fp32``."""
    audio: AudioGraph | None = None
    """The graph that starts at the samples, if the bundle holds one."""
    enrolment: Enrolment | None = None
    """Sisters and own clips, if it is a base or was enrolled from one."""


def upgraded(document: dict[str, Any]) -> dict[str, Any]:
    """A manifest of any format that is read, with the keys of :data:`FORMAT_VERSION`.

    Format 1 has neither ``overrides``, ``gate`` nor ``audio``, which then keep their defaults. The
    format's number stays as it is.
    """
    if document["format_version"] >= FORMAT_VERSION:
        return document
    return {RENAMED.get(key, key): value for key, value in document.items()}
