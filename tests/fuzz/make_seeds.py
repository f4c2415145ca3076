"""The first files of the corpus: one well-formed example of each thing that is read.

::

    python -m tests.fuzz.make_seeds
"""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch

from edgeflow.losses import LossSpec
from edgeflow.models.maf import MAFSpec
from edgeflow.models.spec import ModelSettings, Schedule
from edgeflow.synth import SynthSpec, synthesise
from edgeflow.training.recipe import Recipe
from edgeflow.training.run import TrainedRun
from edgeflow.training.train import train_run
from edgeflow_export.bundle_from_run import bundle_from_run
from edgeflow_runtime.backends.tensorrt.engine_record import EngineKey, EngineRecord
from edgeflow_runtime.bundle import MANIFEST, Bundle
from edgeflow_runtime.bundle_writer import write_bundle
from edgeflow_runtime.golden import Replay
from edgeflow_runtime.manifest import MachineId
from edgeflow_runtime.scorer import Scorer
from edgeflow_runtime.views import WindowSpec
from tests.fuzz.harnesses import FEATURES, SEED_BUNDLE, seed_members
from tests.fuzz.limits import CORPUS

GOLDEN_SAMPLES = 4000


def main() -> None:
    """Write every seed."""
    with tempfile.TemporaryDirectory() as folder:
        _bundle(Path(folder))
    members = seed_members()
    _keep("manifest/whole.json", members[MANIFEST])
    _keep("graph/flow.onnx", members["flow.onnx"])
    _keep("edited_bundle/nothing", b"")
    _keep("edited_bundle/threshold", bytes([2, 17, 13]))
    _keep("engine_record/whole.json", json.dumps(_record().to_dict()).encode())
    tone = (0.4 * np.sin(np.arange(1200))).astype(np.float32)
    for name, subtype in (("pcm16", "PCM_16"), ("pcm24", "PCM_24"), ("float", "FLOAT")):
        _keep(f"wav/{name}.wav", _sound(tone, "WAV", subtype))
    _keep("wav/gsm.wav", _sound(tone, "WAV", "GSM610"))
    _keep("wav/stereo.wav", _sound(np.stack([tone, tone], axis=1), "WAV", "PCM_16"))
    _keep("flac/pcm16.flac", _sound(tone, "FLAC", "PCM_16"))
    array = io.BytesIO()
    np.save(array, np.random.default_rng(0).normal(-40, 9, (20, FEATURES.bands)).astype("f4"))
    _keep("npy/whole.npy", array.getvalue())
    _keep("pipe/raw", b"\0" + tone.tobytes())
    _keep("pipe/wav", b"\0" + _sound(tone, "WAV", "PCM_16"))
    _keep("pipe/signalling-nan", bytes([6]) + b"\x01\x00\x80\x7f" * 200)
    fields = struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
    data = b"data\xff\xff\xff\xff" + bytes(range(200))
    _keep("pipe/open-wav", b"\0RIFF\0\0\0\0WAVEfmt " + fields + data)


def _keep(name: str, content: bytes) -> None:
    path = CORPUS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _sound(samples: np.ndarray, kind: str, subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format=kind, subtype=subtype)
    return file.getvalue()


def _bundle(folder: Path) -> None:
    """A monitor of eight bands, with a golden recording of a quarter of a second."""
    synthesise(folder / "sounds", SynthSpec(("fan",), machines=1, clips=6, seconds=1.0))
    once = Schedule(epochs=1, batch=64, optimiser="adam", learning_rate=1e-3)
    settings = ModelSettings(
        MAFSpec(bands=8, frames=4, hidden=8, blocks=1), WindowSpec(4, 4), once, once
    )
    assert FEATURES.logmel is not None
    recipe = Recipe(
        str(folder / "sounds"), MachineId("fan", "00"), LossSpec("nll"), settings,
        FEATURES.logmel, None, 0.3, 0,
    )  # fmt: skip
    train_run(recipe, folder / "run", torch.device("cpu"))
    bundle_from_run(TrainedRun.load(folder / "run"), folder / "whole.edgeflow")
    whole = Bundle.load(folder / "whole.edgeflow")
    samples = whole.golden["samples"][:GOLDEN_SAMPLES]
    with Scorer.load(folder / "whole.edgeflow") as scorer:
        assert scorer.logmel is not None
        logmel = scorer.logmel(samples)
        nll = scorer.runner.run(scorer.view.rehearse(logmel))
    golden = {"samples": samples, "logmel": logmel, "nll": nll}
    SEED_BUNDLE.parent.mkdir(parents=True, exist_ok=True)
    versions = dict.fromkeys(whole.manifest.training.versions, "0")
    training = dataclasses.replace(whole.manifest.training, versions=versions)
    manifest = dataclasses.replace(whole.manifest, training=training)
    write_bundle(SEED_BUNDLE, manifest, whole.onnx, whole.frontend, golden)


def _record() -> EngineRecord:
    key = EngineKey("tensorrt", "flow", "ab" * 32, "10.3.0", 26, "Orin", "8.7", 8, "12.6", "36.4.3")
    proof = Replay(16, (1, 16), 1e-6, 1e-4)
    file = f"flow-tensorrt-{'cd' * 6}.engine"
    return EngineRecord(1, key, (1, 16), "fp32", {"FLOAT": 3}, 1 << 29, 1.5, file, "cd" * 32, proof)


if __name__ == "__main__":
    main()
