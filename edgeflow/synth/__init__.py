"""Machine sounds made by rule: a seeded generator in the layout of DCASE 2020 Task 2."""

from edgeflow.synth.anomalies import Anomaly
from edgeflow.synth.dataset import synthesise
from edgeflow.synth.machines import anomaly_for, render
from edgeflow.synth.spec import MACHINE_IDS, MACHINE_TYPES, RATE_HZ, SynthSpec

__all__ = [
    "MACHINE_IDS",
    "MACHINE_TYPES",
    "RATE_HZ",
    "Anomaly",
    "SynthSpec",
    "anomaly_for",
    "render",
    "synthesise",
]
