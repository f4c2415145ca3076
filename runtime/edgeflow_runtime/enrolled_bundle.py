"""A new machine's bundle from a base: the same graph with its constants, proven before it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime

from edgeflow_runtime.arrays import Array
from edgeflow_runtime.backends.names import FLOW
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.backends.protocol import nll_of
from edgeflow_runtime.base import Base
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.bundle_writer import write_again
from edgeflow_runtime.clip_reader import Clip
from edgeflow_runtime.enrolment import Enrolled, enrol
from edgeflow_runtime.errors import BundleError, ProofError
from edgeflow_runtime.golden import replay
from edgeflow_runtime.linear_fit import Rows
from edgeflow_runtime.manifest import MachineId, Manifest
from edgeflow_runtime.onnx_weights import replace_initializers


@dataclass(frozen=True)
class EnrolledBundle:
    """What came of it."""

    bundle: Bundle
    """As it was written."""
    enrolled: Enrolled
    """The fit, the threshold, and whether it is like its sisters."""


def check_base(bundle: Bundle, *, add: bool) -> Base:
    """What a bundle lends.

    Args:
        bundle: a base, or with ``add`` one that was enrolled from one.
        add: whether clips are added to those of a machine.

    Raises:
        BundleError: it is not that.
    """
    if bundle.base is None:
        raise BundleError(
            f"'{bundle.path}' is no base: make one with 'edgeflow train DATA --type "
            f"{bundle.manifest.machine.machine_type} --base -o RUN' and 'edgeflow export RUN'"
        )
    if bundle.manifest.machine.is_type == add:
        raise BundleError(
            f"'{bundle.path}' is a base, which has no machine's clips: leave --add out"
            if add
            else f"'{bundle.path}' is enrolled: refine it with --add, or enrol anew from its base"
        )
    return Base.from_tensors(bundle.base)


def enrol_clips(
    bundle: Bundle,
    clips: Sequence[Clip],
    output: str | Path,
    *,
    machine_id: str,
    false_alarm_probability: float,
    add: bool = False,
) -> EnrolledBundle:
    """Write the monitor of a machine never seen, or with ``add`` one that more clips refine.

    Args:
        bundle: a base; with ``add`` an enrolled bundle.
        clips: normal ones with their log-Mel, as
            :class:`~edgeflow_runtime.normal_clips.NormalClips` reads them.
        output: the new bundle.
        machine_id: what the machine is called.
        false_alarm_probability: what the threshold promises.
        add: whether the bundle is of this machine already.

    Raises:
        BundleError: the bundle is no base, or with ``add`` not an enrolled one; or no board would
            take what comes of it.
        DataError: the clips carry no monitor; see :func:`~edgeflow_runtime.enrolment.enrol`.
        ProofError: the graph does not give the scores that were computed.
        StorageError: the disk refuses the write.
    """
    base = check_base(bundle, add=add)
    rows = rows_of(bundle, clips)
    base.check_new([clip.name for clip in clips], rows)
    base = replace(base, own=np.concatenate([base.own, rows]))
    enrolled = enrol(base, false_alarm_probability, bundle.manifest.threshold.clip_seconds)
    onnx = replace_initializers(bundle.onnx, enrolled.fit.constants())
    backend = OnnxRuntimeBackend(onnx)
    golden = dict(bundle.golden) if add else _golden(clips[0])
    golden["nll"] = nll_of(backend, bundle.view.rehearse(golden["logmel"]))
    made = replace(
        bundle,
        path=Path(output),
        manifest=_manifest(bundle.manifest, machine_id, base, enrolled),
        onnx=onnx,
        golden=golden,
        base=base.tensors(),
    )
    _prove(made, backend, enrolled, base.own)
    write_again(made)
    return EnrolledBundle(made, enrolled)


def rows_of(bundle: Bundle, clips: Sequence[Clip]) -> Rows:
    """(n, D) what the bundle's view makes of clips that have their log-Mel."""
    windows = [bundle.view(clip.logmel) for clip in clips if clip.logmel is not None]
    rows: Rows = np.concatenate(windows).reshape(len(windows), -1).astype(np.float64)
    return rows


def _manifest(past: Manifest, machine_id: str, base: Base, enrolled: Enrolled) -> Manifest:
    """What the new bundle says of itself; the usual spread goes on to whoever calibrates."""
    here = {"numpy": np.__version__, "onnxruntime": onnxruntime.__version__}
    versions = past.training.versions | here
    return replace(
        past,
        machine=MachineId(past.machine.machine_type, machine_id),
        threshold=replace(enrolled.threshold, usual_spread=past.threshold.usual_spread),
        training=replace(past.training, target_clips=len(base.own), versions=versions),
        enrolment=base.record(enrolled.fit.blend, enrolled.unlike),
    )


def _golden(clip: Clip) -> dict[str, Array]:
    """One of the machine's own clips, as a bundle records it."""
    assert clip.logmel is not None
    sound = {} if clip.samples is None else {"samples": np.ascontiguousarray(clip.samples)}
    return {**sound, "logmel": clip.logmel}


def _prove(made: Bundle, backend: OnnxRuntimeBackend, enrolled: Enrolled, own: Rows) -> None:
    """The graph gives what was computed of every own clip, and its golden recording again."""
    windows = own.astype(np.float32).reshape(len(own), *made.view.shape)
    worst = float(np.abs(nll_of(backend, windows) - enrolled.fit.nll(own)).max())
    worst = max(worst, replay(made, FLOW, backend).nll)
    allowed = made.manifest.tolerances.nll
    if not worst <= allowed:  # a NaN is within nothing
        raise ProofError(
            f"with this machine's constants the graph is {worst:.1e} nats/dim off what was "
            f"computed (allowed {allowed:.0e}): nothing was written"
        )
