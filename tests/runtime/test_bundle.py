"""Bundles are read whole and verified, or refused by name."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow_runtime.bundle import DIGEST, MANIFEST, Bundle, canonical_digest
from edgeflow_runtime.bundle_writer import write_bundle
from edgeflow_runtime.errors import BundleError, BundleIntegrityError, BundleVersionError
from edgeflow_runtime.manifest import FORMAT_VERSION


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def with_manifest(path: Path, content: dict[str, bytes], *, sign: bool = True, **changes: object):
    document = json.loads(content[MANIFEST]) | changes
    document = {key: value for key, value in document.items() if value is not ...}
    if sign:
        document.pop(DIGEST, None)
        document[DIGEST] = canonical_digest(document)
    return rewrite(path, content | {MANIFEST: json.dumps(document).encode()})


def test_a_bundle_holds_what_the_design_says(bundle_path: Path):
    with zipfile.ZipFile(bundle_path) as archive:
        assert archive.namelist() == [
            "manifest.json",
            "flow.onnx",
            "frontend.safetensors",
            "golden.safetensors",
        ]
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
    bundle = Bundle.load(bundle_path)
    assert bundle.manifest.machine.name == "fan_id_00"
    assert bundle.frontend["filterbank"].shape == (32, 129)
    assert len(bundle.golden["samples"]) == 16000


def test_writing_what_was_read_gives_the_same_bytes(bundle_path: Path, tmp_path: Path):
    copies = [tmp_path / "copy.edgeflow", tmp_path / "copy of the copy.edgeflow"]
    for source, copy in zip((bundle_path, copies[0]), copies, strict=True):
        bundle = Bundle.load(source)
        write_bundle(copy, bundle.manifest, bundle.onnx, bundle.frontend, bundle.golden)
    assert copies[1].read_bytes() == copies[0].read_bytes()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_truncated_anywhere_is_refused(bundle_path: Path, tmp_path_factory, data: st.DataObject):
    content = bundle_path.read_bytes()
    path = tmp_path_factory.mktemp("cut") / "cut.edgeflow"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(BundleIntegrityError):
        Bundle.load(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_in_a_member_is_refused(bundle_path: Path, tmp_path_factory, data):
    members = members_of(bundle_path)
    name = data.draw(st.sampled_from(sorted(members)))
    content = bytearray(members[name])
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    if name == MANIFEST and _same_json(bytes(content), members[name]):
        return  # white space
    path = tmp_path_factory.mktemp("flip") / "flip.edgeflow"
    with pytest.raises(BundleError):
        Bundle.load(rewrite(path, members | {name: bytes(content)}))


def _same_json(a: bytes, b: bytes) -> bool:
    try:
        return json.loads(a) == json.loads(b)
    except ValueError:
        return False


def test_a_newer_format_says_so(bundle_path: Path, tmp_path: Path):
    path = with_manifest(
        tmp_path / "x.edgeflow", members_of(bundle_path), format_version=FORMAT_VERSION + 1
    )
    with pytest.raises(BundleVersionError, match=r"has format \d+; .* update edgeflow"):
        Bundle.load(path)


@pytest.mark.parametrize("key", ["threshold", "view", "features", "members", "machine"])
def test_a_missing_key_is_named(bundle_path: Path, tmp_path: Path, key: str):
    path = with_manifest(tmp_path / "x.edgeflow", members_of(bundle_path), **{key: ...})
    with pytest.raises(BundleIntegrityError, match=f"missing key '{key}'"):
        Bundle.load(path)


def test_an_edited_threshold_is_noticed(bundle_path: Path, tmp_path: Path):
    members = members_of(bundle_path)
    threshold = json.loads(members[MANIFEST])["threshold"] | {"value": 99.0}
    path = with_manifest(tmp_path / "x.edgeflow", members, sign=False, threshold=threshold)
    with pytest.raises(BundleIntegrityError, match=r"manifest\.json was edited"):
        Bundle.load(path)


def test_missing_and_extra_members_are_refused(bundle_path: Path, tmp_path: Path):
    members = members_of(bundle_path)
    for name in members:
        rest = {key: value for key, value in members.items() if key != name}
        with pytest.raises(BundleIntegrityError, match=f"lacks {name}"):
            Bundle.load(rewrite(tmp_path / "x.edgeflow", rest))
    with pytest.raises(BundleIntegrityError, match=r"'evil\.py', which its manifest does not name"):
        Bundle.load(rewrite(tmp_path / "y.edgeflow", members | {"evil.py": b"x"}))


def test_tensors_that_do_not_fit_are_named(bundle_path: Path, tmp_path: Path):
    bundle = Bundle.load(bundle_path)
    path = tmp_path / "x.edgeflow"
    frontend = bundle.frontend | {"mean": np.zeros(3, np.float32)}
    write_bundle(path, bundle.manifest, bundle.onnx, frontend, bundle.golden)
    with pytest.raises(BundleIntegrityError, match=r"'mean' of shape \(32,\) and type float32, it"):
        Bundle.load(path)
    golden = {key: value for key, value in bundle.golden.items() if key != "nll"}
    write_bundle(path, bundle.manifest, bundle.onnx, bundle.frontend, golden)
    with pytest.raises(BundleIntegrityError, match="lacks 'nll'"):
        Bundle.load(path)


def test_compressed_members_are_refused(bundle_path: Path, tmp_path: Path):
    path = tmp_path / "x.edgeflow"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members_of(bundle_path).items():
            archive.writestr(name, content)
    with pytest.raises(BundleIntegrityError, match="is compressed"):
        Bundle.load(path)


def test_a_threshold_of_nan_is_refused(bundle_path: Path, tmp_path: Path):
    members = members_of(bundle_path)
    threshold = json.loads(members[MANIFEST])["threshold"] | {"value": float("nan")}
    path = with_manifest(tmp_path / "x.edgeflow", members, threshold=threshold)
    with pytest.raises(BundleIntegrityError, match="expected a finite number, found nan"):
        Bundle.load(path)


def test_not_a_bundle(tmp_path: Path):
    (tmp_path / "text.edgeflow").write_text("hello")
    with pytest.raises(BundleIntegrityError, match="not a whole bundle"):
        Bundle.load(tmp_path / "text.edgeflow")
    with pytest.raises(BundleError, match="is missing"):
        Bundle.load(tmp_path / "gone.edgeflow")


def test_each_graph_is_given_by_its_own_name(bundle_path: Path):
    alone = Bundle.load(bundle_path)
    both = dataclasses.replace(alone, audio_onnx=b"audio")
    assert (both.graph("flow"), both.graph("audio")) == (alone.onnx, b"audio")
    assert alone.graph("flow") == alone.onnx
    for ask in (lambda: alone.graph("audio"), alone.audio_graph):
        with pytest.raises(BundleError, match="holds no graph that starts at the samples"):
            ask()
