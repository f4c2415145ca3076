"""Writing a bundle: members stored in one zip file, each hashed in the manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors.numpy import save

from edgeflow_runtime.bundle import (
    AUDIO,
    BASE,
    DIGEST,
    FLOW,
    FRONTEND,
    GOLDEN,
    MANIFEST,
    canonical_digest,
)
from edgeflow_runtime.manifest import Manifest
from edgeflow_runtime.storage import atomic_file

Array = npt.NDArray[Any]

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
    """Write ``path``, whole or not at all; ``manifest.members`` is filled in here.

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
    document = dataclasses.replace(manifest, members=hashes).to_dict()
    document[DIGEST] = canonical_digest(document)
    text = json.dumps(document, indent=2) + "\n"
    with atomic_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {MANIFEST: text.encode(), **members}.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content)
