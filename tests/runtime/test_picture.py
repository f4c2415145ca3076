"""All pictures of a bundle share one scale, in which its golden recording stays grey."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.picture import STEEPEST, _blurred, map_scale
from edgeflow_runtime.scorer import Scorer

BUNDLES = Path(__file__).parent.parent / "bundles"


@pytest.mark.parametrize("name", ["maf", "glow"])
def test_normal_sound_is_not_coloured(name: str):
    path = BUNDLES / f"{name}.edgeflow"
    bundle = Bundle.load(path)
    scale = map_scale(bundle)
    assert scale.full >= STEEPEST * scale.usual * (1 - 1e-9)
    with Scorer.load(path, backend="onnxruntime") as scorer:
        windows = bundle.view(bundle.golden["logmel"])
        energy = scorer.runner.run(windows, maps=True) - np.float32(scale.least)
    local = _blurred(bundle.view.lay(energy, bundle.golden["logmel"]))
    assert np.nanmin(local) >= 0
    assert np.nanmean(local > scale.usual) <= 0.0011


def test_a_higher_threshold_takes_more_to_colour():
    bundle = Bundle.load(BUNDLES / "maf.edgeflow")
    threshold = bundle.manifest.threshold
    scales = [
        map_scale(
            replace(
                bundle,
                manifest=replace(bundle.manifest, threshold=replace(threshold, value=value)),
            )
        )
        for value in (threshold.value + 1, threshold.value + 10)
    ]
    assert scales[0].usual < scales[1].usual
    assert scales[0].full < scales[1].full
    assert scales[0].moments == scales[1].moments
