"""Reading a bundle, whole and verified, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.archive import members_of
from edgeflow_runtime.arrays import Array
from edgeflow_runtime.backends import names
from edgeflow_runtime.documents import parsed
from edgeflow_runtime.errors import (
    BundleError,
    BundleIntegrityError,
    BundleVersionError,
    ConfigError,
)
from edgeflow_runtime.limits import (
    LARGEST_BUNDLE,
    LARGEST_MANIFEST,
    LARGEST_TENSORS,
    check_claims,
    check_manifest,
)
from edgeflow_runtime.logmel import LogMel
from edgeflow_runtime.manifest import FORMAT_VERSION, Manifest, upgraded
from edgeflow_runtime.printable import quoted
from edgeflow_runtime.signature import Signature
from edgeflow_runtime.tensors import read_tensors
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


Sizes: TypeAlias = "tuple[int | None, ...]"


def canonical_digest(document: dict[str, Any]) -> str:
    """SHA-256 of a JSON document written with sorted keys and no spaces."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A monitor as it travels: one file that the board needs nothing beside.

    Build one with :meth:`load`; every hash, limit and graph has then been checked.
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
            BundleError: there is no such file, or it holds a graph that a board does not run, or
                claims what cannot be.
        """
        path = Path(path)
        try:
            return _load(path)
        except MemoryError as error:
            raise BundleError(f"'{path}' takes more memory than there is") from error

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

    def signature(self, name: str) -> Signature:
        """What the graph ``flow`` or ``audio`` must take and give. Raises as :meth:`graph` does."""
        if name == names.FLOW:
            return Signature.of_flow(self.view)
        audio, spec = self.audio_graph(), self.manifest.features.logmel
        assert spec is not None
        return Signature.of_audio(audio, self.view, spec.frames(audio.samples))

    def _check(self) -> None:
        """Hold tensors, graphs and claims against the manifest and each other."""
        if (self.manifest.audio is None) != (self.audio_onnx is None):
            raise BundleIntegrityError(f"'{self.path}': the manifest and {AUDIO} do not agree")
        self._check_frontend()
        self._check_golden()
        self._check_base()
        for name, member in ((names.FLOW, FLOW), (names.AUDIO, AUDIO)):
            if member in self.manifest.members:
                try:
                    self.signature(name).check_graph(self.graph(name))
                except ValueError as error:
                    raise BundleError(f"'{self.path}': {member}: {error}") from error
        claims = self.manifest.threshold.value, self.manifest.tolerances.nll
        try:
            check_claims(*claims, self.golden["nll"])
        except ConfigError as error:
            raise BundleError(f"'{self.path}': {error}") from error

    def _check_frontend(self) -> None:
        bands = self.manifest.features.bands
        standard = self.manifest.view.standard_shape(bands)
        wanted: dict[str, Sizes] = {"mean": standard, "scale": standard}
        if spec := self.manifest.features.logmel:
            wanted |= {"window": (spec.frame,), "filterbank": (bands, spec.frame // 2 + 1)}
        self._check_tensors(FRONTEND, self.frontend, wanted)
        for name in wanted:
            if not np.isfinite(self.frontend[name]).all():
                raise BundleIntegrityError(f"'{self.path}': {FRONTEND}: {name!r} is not finite")
        if not (self.frontend["scale"] > 0).all():
            raise BundleIntegrityError(f"'{self.path}': {FRONTEND}: 'scale' is not positive")

    def _check_golden(self) -> None:
        wanted: dict[str, Sizes] = {"logmel": (None, self.manifest.features.bands), "nll": (None,)}
        if self.manifest.features.logmel:
            wanted["samples"] = (None,)
        if self.manifest.audio:
            signature = self.signature(names.AUDIO)
            wanted |= {"audio": (1, *signature.row), "audio_nll": (1, signature.windows)}
        self._check_tensors(GOLDEN, self.golden, wanted)

    def _check_tensors(
        self, member: str, tensors: dict[str, npt.NDArray[Any]], wanted: dict[str, Sizes]
    ) -> None:
        """Refuse a tensor that is missing, or of another size or type; ``None`` is any size."""
        for name, sizes in wanted.items():
            tensor = tensors.get(name)
            if tensor is None:
                raise BundleIntegrityError(f"'{self.path}': {member} lacks {name!r}")
            kind = "uint8" if name == "audio" and len(sizes) > 2 else "float32"
            fits = len(sizes) == tensor.ndim and all(
                n in (None, size) for n, size in zip(sizes, tensor.shape, strict=True)
            )
            if not fits or tensor.dtype != kind:
                shape = str(tuple("n" if n is None else n for n in sizes)).replace("'", "")
                raise BundleIntegrityError(
                    f"'{self.path}': {member} needs {name!r} of shape {shape} and type {kind}, it "
                    f"is of shape {tensor.shape} and type {tensor.dtype}"
                )

    def _check_base(self) -> None:
        """Hold what machines are enrolled from against the manifest."""
        enrolment, tensors = self.manifest.enrolment, self.base
        if enrolment is None or tensors is None:
            if enrolment is not None or tensors is not None or self.manifest.machine.is_type:
                raise BundleIntegrityError(f"'{self.path}': the manifest and {BASE} do not agree")
            return
        dims = self.manifest.view.rows * self.manifest.features.bands
        wanted: dict[str, Sizes] = {"floor": (dims,), "own": (enrolment.clips, dims)}
        wanted |= {SISTER + name: (clips, dims) for name, clips in enrolment.sisters.items()}
        if tensors.keys() != wanted.keys():
            raise BundleIntegrityError(f"'{self.path}': {BASE} is not what the manifest says")
        self._check_tensors(BASE, tensors, wanted)
        for name, tensor in tensors.items():
            if not np.isfinite(tensor).all():
                raise BundleIntegrityError(f"'{self.path}': {BASE}: {name!r} is not finite")


def _load(path: Path) -> Bundle:
    """Read, understand and check a bundle."""
    content = _read(path)
    try:
        members = members_of(memoryview(content))
    except ValueError as error:
        raise BundleIntegrityError(
            f"'{path}' is not a whole bundle (truncated, edited or something else): {error}"
        ) from error
    for name in (MANIFEST, *MEMBERS):
        if name not in members:
            raise BundleIntegrityError(f"'{path}' lacks {name}")
    manifest = _read_manifest(path, members[MANIFEST])
    _check_hashes(path, members, manifest)
    bundle = Bundle(
        path,
        hashlib.sha256(content).hexdigest(),
        manifest,
        bytes(members[FLOW]),
        _read_tensors(path, FRONTEND, members),
        _read_tensors(path, GOLDEN, members),
        bytes(members[AUDIO]) if AUDIO in members else None,
        _read_tensors(path, BASE, members) if BASE in members else None,
    )
    bundle._check()
    return bundle


def _read(path: Path) -> bytes:
    """The whole file, unless it is larger than a bundle."""
    if not path.is_file():
        raise BundleError(f"'{path}' is not a file" if path.exists() else f"'{path}' is missing")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > LARGEST_BUNDLE:
                raise BundleError(f"'{path}' has {size} bytes, a bundle at most {LARGEST_BUNDLE}")
            return file.read(size)
    except OSError as error:
        raise BundleError(f"'{path}' cannot be read: {error.strerror}") from error


def _read_manifest(path: Path, content: memoryview) -> Manifest:
    if len(content) > LARGEST_MANIFEST:
        raise BundleIntegrityError(f"'{path}': {MANIFEST} has {len(content)} bytes")
    try:
        document = parsed(bytes(content))
    except ConfigError as error:
        raise BundleIntegrityError(f"'{path}': {MANIFEST}: {error}") from error
    if not isinstance(document, dict):
        raise BundleIntegrityError(f"'{path}': {MANIFEST} is not an object")
    version = document.get("format_version")
    if type(version) is not int or version < 1:
        raise BundleIntegrityError(f"'{path}': {MANIFEST} has no valid 'format_version'")
    if version > FORMAT_VERSION:
        raise BundleVersionError(
            f"'{path}' has format {quoted(version)}; this edgeflow reads up to {FORMAT_VERSION}: "
            "update edgeflow"
        )
    digest = document.pop(DIGEST, None)
    try:
        manifest = Manifest.from_dict(upgraded(document))
        check_manifest(manifest)
    except ConfigError as error:
        raise BundleIntegrityError(f"'{path}': {MANIFEST}: {error}") from error
    if digest != canonical_digest(document):
        raise BundleIntegrityError(f"'{path}': {MANIFEST} was edited: its hash differs")
    return manifest


def _check_hashes(path: Path, members: dict[str, memoryview], manifest: Manifest) -> None:
    for name in members:
        if name != MANIFEST and name not in manifest.members:
            raise BundleIntegrityError(f"'{path}' holds {name!r}, which its manifest does not name")
    for name in {*MEMBERS, *manifest.members}:
        sha256 = hashlib.sha256(members[name]).hexdigest() if name in members else "missing"
        if sha256 != manifest.members.get(name):
            raise BundleIntegrityError(f"'{path}': {name} was edited: its hash differs")


def _read_tensors(
    path: Path, name: str, members: dict[str, memoryview]
) -> dict[str, npt.NDArray[Any]]:
    if len(members[name]) > LARGEST_TENSORS:
        raise BundleIntegrityError(f"'{path}': {name} has {len(members[name])} bytes")
    try:
        return read_tensors(bytes(members[name]))
    except ValueError as error:
        raise BundleIntegrityError(f"'{path}': {name} cannot be read: {error}") from error
