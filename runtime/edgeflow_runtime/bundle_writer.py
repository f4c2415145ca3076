"""Writing a bundle: members stored in one zip file, each hashed in the manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path

from safetensors.numpy import save

from edgeflow_runtime.arrays import Array
from edgeflow_runtime.bundle import (
    AUDIO,
    BASE,
    DIGEST,
    FLOW,
    FRONTEND,
    GOLDEN,
    MANIFEST,
    Bundle,
    canonical_digest,
)
from edgeflow_runtime.errors import BundleError, ConfigError
from edgeflow_runtime.limits import check_claims, check_manifest
from edgeflow_runtime.manifest import FORMAT_VERSION, Manifest
from edgeflow_runtime.storage import atomic_file

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time stamp of every member: equal content makes equal files."""


def write_bundle(
    path: Path,
    manifest: Manifest,
    onnx: bytes,
    frontend: dict[str, Array],
    golden: dict[str, Array],
    audio_onnx: bytes | None = None,
    base: dict[str, Array] | None = None,
) -> None:
    """Write ``path``, whole or not at all, in the newest format.

    ``manifest.members`` and ``format_version`` are filled in here.

    What each part holds :class:`~edgeflow_runtime.bundle.Bundle` says.

    Raises:
        StorageError: the disk refuses the write.
    """
    members = {FLOW: onnx, FRONTEND: save(frontend), GOLDEN: save(golden)}
    if audio_onnx is not None:
        members[AUDIO] = audio_onnx
    if base is not None:
        members[BASE] = save(base)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    written = dataclasses.replace(manifest, format_version=FORMAT_VERSION, members=hashes)
    document = written.to_dict()
    document[DIGEST] = canonical_digest(document)
    text = json.dumps(document, indent=2) + "\n"
    with atomic_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {MANIFEST: text.encode(), **members}.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content)


def write_again(bundle: Bundle) -> None:
    """Write a bundle that was changed here to its path.

    Raises:
        BundleError: no board would take it, so what is there stays.
        StorageError: the disk refuses the write.
    """
    manifest, golden = bundle.manifest, bundle.golden
    try:
        check_manifest(manifest)
        check_claims(manifest.threshold.value, manifest.tolerances.nll, golden["nll"])
    except ConfigError as error:
        raise BundleError(f"no board would take this bundle, it is not written: {error}") from error
    write_bundle(
        bundle.path,
        manifest,
        bundle.onnx,
        bundle.frontend,
        golden,
        bundle.audio_onnx,
        bundle.base,
    )
