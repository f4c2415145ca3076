"""Normalizing flows with additive couplings over log-Mel windows."""

from edgeflow.flows.flow import Flow
from edgeflow.flows.folded import FoldedFlow
from edgeflow.flows.glow import Glow, GlowSpec
from edgeflow.flows.maf import MAF, MAFSpec

FlowSpec = GlowSpec | MAFSpec
"""The size of a flow, of any kind."""


def build(spec: FlowSpec) -> Flow:
    """A fresh flow of the size that ``spec`` gives."""
    return Glow(spec) if isinstance(spec, GlowSpec) else MAF(spec)


__all__ = ["MAF", "Flow", "FlowSpec", "FoldedFlow", "Glow", "GlowSpec", "MAFSpec", "build"]
