"""Normalizing flows with additive couplings over log-Mel windows."""

from edgeflow.models.flow import Flow
from edgeflow.models.folded import FoldedFlow
from edgeflow.models.glow import Glow, GlowSpec
from edgeflow.models.maf import MAF, MAFSpec

FlowSpec = GlowSpec | MAFSpec
"""The size of a flow, of any kind."""


def build(spec: FlowSpec) -> Flow:
    """A fresh flow of the size that ``spec`` gives."""
    return Glow(spec) if isinstance(spec, GlowSpec) else MAF(spec)


__all__ = ["MAF", "Flow", "FlowSpec", "FoldedFlow", "Glow", "GlowSpec", "MAFSpec", "build"]
