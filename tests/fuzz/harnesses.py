"""What is fed with anything at all: each takes bytes and raises nothing but ``EdgeflowError``."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from edgeflow_runtime.backends.tensorrt.engine_record import EngineRecord
from edgeflow_runtime.backends.tensorrt.engine_store import EngineStore
from edgeflow_runtime.bundle import DIGEST, FLOW, FRONTEND, GOLDEN, MANIFEST, canonical_digest
from edgeflow_runtime.clip_reader import ClipReader
from edgeflow_runtime.errors import EdgeflowError
from edgeflow_runtime.logmel import LogMelSpec
from edgeflow_runtime.manifest import Features
from edgeflow_runtime.pipe import ENCODINGS, PcmFormat, cut_pipe
from tests.fuzz.limits import CORPUS

SEED_BUNDLE = CORPUS / "bundle" / "fan.edgeflow"

ODD = (
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 10**400, 0.0, -0.0, 1e-320, 1e308, -1e308,
    float("nan"), float("inf"), "", "\ud800", "\x1b[2J\n", "x" * 5000, [], [[]], {}, {"": None},
)  # fmt: skip
"""What no manifest should hold in most of its places."""

FEATURES = Features(8, 16000, None, LogMelSpec(frame=64, hop=32, bands=8))


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="edgeflow-fuzz-"))


def _file(name: str, content: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(content)
    return path


def bundle(data: bytes) -> None:
    """The bytes of a bundle: read, and if it is one, scored with."""
    _judge(_file("a.edgeflow", data))


def edited_bundle(data: bytes) -> None:
    """A bundle with its manifest edited, or a member's bytes, and every hash made right again."""
    _judge(_edited(data, {MANIFEST, FRONTEND, GOLDEN}))


def graph(data: bytes) -> None:
    """A bundle with this ONNX graph in it, its hashes right."""
    _judge(_rehashed(seed_members() | {FLOW: data}))


def manifest(data: bytes) -> None:
    """The text of a manifest, in a bundle whose hashes are right if it is one."""
    try:
        document = json.loads(data)
        path = _rehashed(seed_members(), document) if isinstance(document, dict) else None
    except (ValueError, RecursionError):
        path = None
    _judge(path or _zipped(seed_members() | {MANIFEST: data}))


def engine_record(data: bytes) -> None:
    """The record of an engine."""
    store = EngineStore(_folder() / "fan.edgeflow")
    store.folder.mkdir(mode=0o755, exist_ok=True)
    (store.folder / "flow-tensorrt.json").write_bytes(data)
    with suppress(EdgeflowError):
        record = store.record("flow", "tensorrt")
        if record is not None:
            EngineRecord.from_dict(record.to_dict())
            store.load(record.key)


def pipe(data: bytes) -> None:
    """Sound from a pipe: the first byte says how it is cut, the others come through it."""
    how = data[0] if data else 0
    fmt = PcmFormat(16000, 1 + how % 3, list(ENCODINGS)[how // 3 % 3])
    with suppress(EdgeflowError):
        for _ in islice(cut_pipe(io.BytesIO(data[1:]), fmt, 0.01 * (1 + how // 9)), 1000):
            pass


def _clip(suffix: str) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        reader = ClipReader(FEATURES.bands, FEATURES.intake(None))
        with suppress(EdgeflowError):
            reader.read(_file(f"clip{suffix}", data))

    read.__doc__ = f"A clip in a file of the name ``*{suffix}``."
    return read


HARNESSES: dict[str, Callable[[bytes], None]] = {
    "bundle": bundle,
    "edited_bundle": edited_bundle,
    "graph": graph,
    "manifest": manifest,
    "engine_record": engine_record,
    "pipe": pipe,
    "wav": _clip(".wav"),
    "flac": _clip(".flac"),
    "npy": _clip(".npy"),
}


def _judge(path: Path) -> None:
    """Load a bundle and score its own golden recording with it."""
    from edgeflow_runtime.scorer import Scorer

    with suppress(EdgeflowError), Scorer.load(path, workers=1) as scorer:
        samples = scorer.bundle.golden.get("samples")
        if samples is not None:
            result = scorer.score(samples, 16000)
            assert result.verdict in ("normal", "anomalous"), result


@cache
def seed_members() -> dict[str, bytes]:
    """What the bundle of the corpus holds."""
    with zipfile.ZipFile(SEED_BUNDLE) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _edited(data: bytes, names: set[str]) -> Path:
    """A bundle in which each three bytes of ``data`` change one thing."""
    members = dict(seed_members())
    document = json.loads(members[MANIFEST])
    for which, where, what in zip(*[iter(data[:30])] * 3, strict=False):
        name = sorted(names)[which % len(names)]
        if name == MANIFEST:
            _place(document, where, ODD[what % len(ODD)])
        else:
            content = bytearray(members[name])
            content[(where * 257 + which) % min(len(content), 2000)] = what
            members[name] = bytes(content)
    return _rehashed(members, document)


def _place(document: dict[str, Any], number: int, value: object) -> None:
    """Put ``value`` into the place of that number, of all places in ``document``."""
    places = list(_places(document))
    holder, key = places[number % len(places)]
    holder[key] = value


def _places(holder: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    for key, value in holder.items():
        yield holder, key
        if isinstance(value, dict):
            yield from _places(value)


def _rehashed(members: dict[str, bytes], document: dict[str, Any] | None = None) -> Path:
    """Write a bundle whose hashes are right, whatever it holds."""
    document = json.loads(members[MANIFEST]) if document is None else document
    document.pop(DIGEST, None)
    hashes = document.get("members")
    if isinstance(hashes, dict):
        rest = {name: content for name, content in members.items() if name != MANIFEST}
        hashes |= {name: hashlib.sha256(content).hexdigest() for name, content in rest.items()}
    document[DIGEST] = canonical_digest(document)
    return _zipped(members | {MANIFEST: json.dumps(document).encode()})


def _zipped(members: dict[str, bytes]) -> Path:
    path = _folder() / "edited.edgeflow"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return path
