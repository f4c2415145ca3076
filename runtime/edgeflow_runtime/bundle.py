"""Reading a bundle, whole and verified, or not at all."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.arrays import Array
from edgeflow_runtime.backends import names
from edgeflow_runtime.errors import (
    BundleError,
    BundleIntegrityError,
    BundleVersionError,
    ConfigError,
)
from edgeflow_runtime.logmel import LogMel
from edgeflow_runtime.manifest import FORMAT_VERSION, Manifest, upgraded
from edgeflow_runtime.views import View
from edgeflow_runtime.whole_clips import AudioGraph

MANIFEST = "manifest.json"
FLOW = "flow.onnx"
FRONTEND = "frontend.safetensors"
GOLDEN = "golden.safetensors"
MEMBERS = (FLOW, FRONTEND, GOLDEN)
"""Members beside the manifest, each hashed in it."""

AUDIO = "audio.onnx"
"""A further member, of bundles that hold the graph which starts at the samples."""

BASE = "base.safetensors"
"""A further member, of bases and of bundles that were enrolled from one."""

SISTER = "sister:"
"""What the name of a sister's rows begins with, among the tensors of :data:`BASE`."""

DIGEST = "sha256"
"""The manifest's key for its own hash, taken over its canonical JSON without this key."""


def canonical_digest(document: dict[str, Any]) -> str:
    """SHA-256 of a JSON document written with sorted keys and no spaces."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A monitor as it travels: one file that the board needs nothing beside.

    Build one with :meth:`load`; every hash has then been checked.
    """

    path: Path
    """Where it was read from."""
    sha256: str
    """Of the whole file, as ``sha256sum`` prints it; every result names its bundle by it."""
    manifest: Manifest
    """What it says of itself."""
    onnx: bytes
    """The folded flow: ``windows`` (N, T, M) to ``nll`` (N,) and ``nll_map`` (N, t, m)."""
    frontend: dict[str, Array]
    """``mean``, ``scale`` of the view, and ``window``, ``filterbank`` if it listens to sound."""
    golden: dict[str, npt.NDArray[Any]]
    """A real clip: ``samples`` (if it listens to sound), ``logmel`` (frames, bands), ``nll``; and
    for the graph that starts at the samples ``audio`` (1, ...) and ``audio_nll`` (1, windows)."""
    audio_onnx: bytes | None = None
    """The graph from samples to scores, if there is one: to ``nll`` (clips, windows), ``score``
    (clips,) and ``nll_map`` (clips, windows, t, m)."""
    base: dict[str, Array] | None = None
    """What machines are enrolled from, if it is a base or was enrolled: see
    :class:`~edgeflow_runtime.base.Base`."""

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Read and verify ``path``.

        Raises:
            BundleVersionError: a newer edgeflow wrote it.
            BundleIntegrityError: it is truncated, edited or incomplete.
            BundleError: there is no such file.
        """
        path = Path(path)
        members, sha256 = _read_members(path)
        manifest = _read_manifest(path, members)
        _check_hashes(path, members, manifest)
        bundle = cls(
            path,
            sha256,
            manifest,
            members[FLOW],
            _read_tensors(path, FRONTEND, members),
            _read_tensors(path, GOLDEN, members),
            members.get(AUDIO),
            _read_tensors(path, BASE, members) if BASE in members else None,
        )
        bundle._check_tensors()
        return bundle

    @property
    def logmel(self) -> LogMel | None:
        """The features with the bundle's own window and filterbank; ``None`` if fed with arrays."""
        spec = self.manifest.features.logmel
        if spec is None:
            return None
        return LogMel(spec, self.frontend["window"], self.frontend["filterbank"])

    @property
    def view(self) -> View:
        """What the model sees of a clip's log-Mel."""
        return View(self.manifest.view, self.frontend["mean"], self.frontend["scale"])

    def graph(self, name: str) -> bytes:
        """One of the bundle's ONNX graphs: ``flow`` or ``audio``.

        Raises:
            BundleError: the bundle holds no ``audio`` graph.
        """
        graph = self.onnx if name == names.FLOW else self.audio_onnx
        if graph is None:
            raise BundleError(
                f"'{self.path}' holds no graph that starts at the samples: "
                "export it with --audio-in"
            )
        return graph

    def check_judges(self) -> None:
        """Refuse a base, which is no monitor. Raises :class:`BundleError`."""
        if self.manifest.machine.is_type:
            raise BundleError(
                f"'{self.path}' is a base for machines of the type {self.manifest.machine.name}, "
                "not a monitor of one: enrol a machine with 'edgeflow enroll'"
            )

    def audio_graph(self) -> AudioGraph:
        """What the graph that starts at the samples takes. Raises as :meth:`graph` does."""
        self.graph(names.AUDIO)
        assert self.manifest.audio is not None
        return self.manifest.audio

    def _check_tensors(self) -> None:
        bands = self.manifest.features.bands
        standard = self.manifest.view.standard_shape(bands)
        wanted: dict[str, tuple[int, ...]] = {"mean": standard, "scale": standard}
        spec = self.manifest.features.logmel
        if spec is not None:
            wanted |= {"window": (spec.frame,), "filterbank": (bands, spec.frame // 2 + 1)}
        for name, shape in wanted.items():
            tensor = self.frontend.get(name)
            if tensor is None or tensor.shape != shape:
                have = "missing" if tensor is None else f"of shape {tensor.shape}"
                raise BundleIntegrityError(
                    f"'{self.path}': {FRONTEND} needs {name!r} of shape {shape}, it is {have}"
                )
        audio = self.manifest.audio
        if (audio is None) != (self.audio_onnx is None):
            raise BundleIntegrityError(f"'{self.path}': the manifest and {AUDIO} do not agree")
        sound, graph = ("samples",) if spec else (), ("audio", "audio_nll") if audio else ()
        for name in ("logmel", "nll", *sound, *graph):
            if name not in self.golden:
                raise BundleIntegrityError(f"'{self.path}': {GOLDEN} lacks {name!r}")
        self._check_base(bands)

    def _check_base(self, bands: int) -> None:
        """Hold what machines are enrolled from against the manifest."""
        enrolment, tensors = self.manifest.enrolment, self.base
        if enrolment is None or tensors is None:
            if enrolment is not None or tensors is not None or self.manifest.machine.is_type:
                raise BundleIntegrityError(f"'{self.path}': the manifest and {BASE} do not agree")
            return
        dims = self.manifest.view.rows * bands
        wanted: dict[str, tuple[int, ...]] = {"floor": (dims,), "own": (enrolment.clips, dims)}
        wanted |= {SISTER + name: (clips, dims) for name, clips in enrolment.sisters.items()}
        if {name: tensor.shape for name, tensor in tensors.items()} != wanted:
            raise BundleIntegrityError(f"'{self.path}': {BASE} is not what the manifest says")
        for name, tensor in tensors.items():
            if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
                raise BundleIntegrityError(f"'{self.path}': {BASE}: {name!r} is not finite float32")


def _read_members(path: Path) -> tuple[dict[str, bytes], str]:
    """All members by name, each read whole with its checksum verified, and the file's SHA-256."""
    if not path.is_file():
        raise BundleError(f"'{path}' is not a file" if path.exists() else f"'{path}' is missing")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = {info.filename: _stored(archive, info) for info in archive.infolist()}
            sha256 = _sha256(file)
    except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError) as error:
        raise BundleIntegrityError(
            f"'{path}' is not a whole bundle (truncated, edited or something else): {error}"
        ) from error
    except OSError as error:
        raise BundleError(f"'{path}' cannot be read: {error.strerror}") from error
    for name in (MANIFEST, *MEMBERS):
        if name not in members:
            raise BundleIntegrityError(f"'{path}' lacks {name}")
    return members, sha256


def _sha256(file: BinaryIO) -> str:
    """Of an open file, from its beginning."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _stored(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """One member's content; compressed ones are no part of the format."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise zipfile.BadZipFile(f"{info.filename} is compressed")
    return archive.read(info)


def _read_manifest(path: Path, members: dict[str, bytes]) -> Manifest:
    try:
        document = json.loads(members[MANIFEST])
    except ValueError as error:
        raise BundleIntegrityError(f"'{path}': {MANIFEST} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BundleIntegrityError(f"'{path}': {MANIFEST} is not an object")
    version = document.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise BundleIntegrityError(f"'{path}': {MANIFEST} has no valid 'format_version'")
    if version > FORMAT_VERSION:
        raise BundleVersionError(
            f"'{path}' has format {version}; this edgeflow reads up to {FORMAT_VERSION}: "
            "update edgeflow"
        )
    digest = document.pop(DIGEST, None)
    try:
        manifest = Manifest.from_dict(upgraded(document))
    except ConfigError as error:
        raise BundleIntegrityError(f"'{path}': {MANIFEST}: {error}") from error
    if digest != canonical_digest(document):
        raise BundleIntegrityError(f"'{path}': {MANIFEST} was edited: its hash differs")
    return manifest


def _check_hashes(path: Path, members: dict[str, bytes], manifest: Manifest) -> None:
    for name in members:
        if name != MANIFEST and name not in manifest.members:
            raise BundleIntegrityError(f"'{path}' holds {name!r}, which its manifest does not name")
    for name in {*MEMBERS, *manifest.members}:
        sha256 = hashlib.sha256(members[name]).hexdigest() if name in members else "missing"
        if sha256 != manifest.members.get(name):
            raise BundleIntegrityError(f"'{path}': {name} was edited: its hash differs")


def _read_tensors(path: Path, name: str, members: dict[str, bytes]) -> dict[str, Array]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors: dict[str, Array] = load(members[name])
    except (SafetensorError, ValueError) as error:
        raise BundleIntegrityError(f"'{path}': {name} cannot be read: {error}") from error
    return tensors
