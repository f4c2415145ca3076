"""The commands that look at a bundle: inspect, verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeflow_runtime.cli.options import NamedPath, echo_document, say, styled
from edgeflow_runtime.printable import printable

if TYPE_CHECKING:
    from edgeflow_runtime.manifest import Enrolment, Gate, Manifest
    from edgeflow_runtime.whole_clips import AudioGraph

PROVES = (
    "the file is whole: no part of it was damaged or edited by mistake",
    "this machine computes its golden scores, within the bundle's tolerances",
)
DOES_NOT_PROVE = (
    "who made it: hashes are no signature, and whoever edits a bundle can write them anew",
    "that its threshold suits the machine it listens to",
)
"""What a passed verification means, and what people might take it to mean."""


@click.command()
@click.argument("bundle", type=NamedPath())
@click.option("--json", "as_json", is_flag=True, help="The whole manifest as a JSON document.")
def inspect(bundle: Path, as_json: bool) -> None:
    """Show what a bundle holds, its hashes checked."""
    from edgeflow_runtime.bundle import Bundle
    from edgeflow_runtime.calibration import percent
    from edgeflow_runtime.manifest import FORMAT_VERSION

    whole = Bundle.load(bundle)
    manifest = whole.manifest
    if as_json:
        document = {"bundle_sha256": whole.sha256, **manifest.to_dict()}
        echo_document(f"edgeflow.manifest.v{FORMAT_VERSION}", document)
        return
    spec, limit, past = manifest.features.logmel, manifest.threshold, manifest.training
    listens = (
        f"{spec.rate_hz} Hz, frame {spec.frame}, hop {spec.hop}, {spec.bands} bands "
        f"({spec.filterbank})"
        if spec
        else f"log-Mel arrays of {manifest.features.bands} bands, made elsewhere"
    )
    outliers = "" if past.outlier_ceiling is None else (
        f", against {past.outlier_clips} clips of others below c = {past.outlier_ceiling:.4f}"
    )  # fmt: skip
    rows = {
        "monitor": manifest.machine.name,
        "format": f"{manifest.format_version}, {bundle.stat().st_size / 1e6:.1f} MB",
        "SHA-256": whole.sha256,
        "listens to": listens,
        "sees": str(manifest.view),
        "flow": f"{past.model}, {_precision(manifest)}, {len(whole.onnx) / 1e6:.1f} MB of ONNX",
        "gate": _gate(manifest.gate),
        "from sound": _audio(manifest.audio),
        "trained": f"{past.loss}, {_counted(past.epochs, 'epoch')}, {past.target_clips} clips"
        f"{outliers}",
        "enrolled": _enrolment(manifest.enrolment),
        "threshold": f"{limit.value:.4f} {manifest.score_unit}",
        "set from": f"{limit.heldout_clips} clips of {limit.clip_seconds:.1f} s for "
        f"{percent(limit.false_alarm_probability)} false alarms",
        "replays": f"within {manifest.tolerances.nll:.1e} nats/dim of the golden recording",
        "made with": ", ".join(f"{k} {v}" for k, v in sorted(past.versions.items())),
    }
    for name, text in rows.items():
        if text:
            say(f"{name:<12}{text}")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _precision(manifest: Manifest) -> str:
    wider = ", ".join(f"{k} in {precision}" for k, precision in manifest.overrides.items())
    return manifest.precision + (f" but for conditioners {wider}" if wider else "")


def _gate(gate: Gate | None) -> str:
    """What the precision costs."""
    if gate is None:
        return ""
    auc = "" if gate.auc_change is None else f"AUC changes by {gate.auc_change:.4f}, "
    return (
        f"against float32 on {gate.clips} clips ({gate.anomalous} anomalous): {auc}rank "
        f"correlation {gate.spearman:.5f}, {gate.flips:.1%} of verdicts flip; a held-out window "
        f"moves by at most {gate.heldout_change:.1e}, their spread is {gate.heldout_spread:.1e}"
    )


def _enrolment(enrolment: Enrolment | None) -> str:
    """What a base lends, or a machine borrowed."""
    if enrolment is None:
        return ""
    sisters = ", ".join(f"{name} ({clips})" for name, clips in enrolment.sisters.items())
    if not enrolment.clips:
        return f"nothing yet: a base of {sisters} clips"
    alone = f", unlike them in its {' and '.join(enrolment.unlike)}" if enrolment.unlike else ""
    return (
        f"from {enrolment.clips} clips, {enrolment.blend:.0%} of the covariance lent by {sisters} "
        f"clips{alone}"
    )


def _audio(audio: AudioGraph | None) -> str:
    """The graph that starts at the samples."""
    if audio is None:
        return ""
    return f"clips of {audio.samples} {audio.encoding} samples, in one graph"


@click.command()
@click.argument("bundle", type=NamedPath())
@click.option(
    "--stages", is_flag=True,
    help="Every stage: through a sound file, in several batch sizes, on the engines built here.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The stages as a JSON document.")
def verify(bundle: Path, stages: bool, as_json: bool) -> None:
    """Check a bundle's hashes and replay its golden recording here.

    Each stage from sound to score is held against the record, and the first that differs is named.
    That proves that the file is whole and that this machine computes as the exporting one did. It
    does not prove who made the bundle, nor that its threshold suits the machine that it listens to.
    """
    from edgeflow_runtime.bundle import Bundle
    from edgeflow_runtime.errors import BackendError
    from edgeflow_runtime.verification import OK, Stage, first_difference, replay_stages

    whole = Bundle.load(bundle)
    replayed = []
    for stage in (Stage("hashes", OK, "all match"), *replay_stages(whole, every=stages)):
        replayed.append(stage)
        if not as_json:
            click.echo(f"{styled(stage.level)}{stage.name:<33}{printable(stage.detail)}")
    different = first_difference(replayed)
    if as_json:
        document = {
            "bundle_sha256": whole.sha256,
            "verified": different is None,
            "stages": [stage.to_dict() for stage in replayed],
            "proves": list(PROVES),
            "does_not_prove": list(DOES_NOT_PROVE),
        }
        echo_document("edgeflow.verification.v1", document)
    if different:
        raise BackendError(
            f"'{bundle}' does not give its golden scores on this machine: the first difference is "
            f"in: {different.name}"
        )
    if not as_json:
        for what, texts in (("proven", PROVES), ("not proven", DOES_NOT_PROVE)):
            for text in texts:
                click.echo(f"{what:<12}{text}")
        click.echo("verified")
