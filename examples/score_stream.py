"""Following a machine window by window, as its sound comes in, with nothing but the base install.

    arecord -f S16_LE -r 16000 -t raw | python examples/score_stream.py fan_id_00.edgeflow

Prints the mean NLL of the windows of each second of 16-bit sound from standard input. Where the
view is of whole clips, as that of the linear flow, there is but one, which the end of the sound
completes.
"""

import sys
from typing import BinaryIO

import numpy as np

import edgeflow as ef


def main(bundle: str, sound: BinaryIO = sys.stdin.buffer) -> None:
    """Score a stream of raw samples at the monitor's rate, a second at a time."""
    with ef.Scorer.load(bundle) as scorer:
        stream, second = scorer.stream(), scorer.bundle.manifest.features.logmel.rate_hz
        heard = 0
        while content := sound.read(2 * second):
            samples = np.frombuffer(content, "<i2").astype(np.float32) / 32768
            heard += len(samples)
            show(heard / second, stream.push(samples), scorer.judge.threshold)
        show(heard / second, stream.finish(), scorer.judge.threshold)


def show(seconds: float, nll: np.ndarray, threshold: float) -> None:
    """Print the mean of the windows that were completed, if any were."""
    if len(nll):
        louder = "above" if nll.mean() > threshold else "below"
        print(f"{seconds:7.1f} s  {nll.mean():.3f} nats/dim, {louder} the threshold")


if __name__ == "__main__":
    main(sys.argv[1])
