"""The two ways that are gone on a board: from a sound to a verdict, from a bundle to an engine."""

from __future__ import annotations

from drawing import Picture, arrow, flows, text
from glyphs import (
    balance,
    chip,
    coupling,
    cross,
    judged,
    question,
    sheets,
    spectrogram,
    tick,
    wave,
    windows,
)
from layout import DISK, RUNTIME, WORKSTATION, Column, finish, fork, frame, middle, supply
from stories import STORIES


def verdict_chips(picture: Picture, top: float, arrows_from: float) -> None:
    """The three verdicts, side by side."""
    for x, name, room, sign in (
        (12, "unknown", DISK, question),
        (150, "normal", RUNTIME, tick),
        (288, "anomalous", WORKSTATION, cross),
    ):
        picture.add(
            f'<rect class="card" x="{x}" y="{top}" width="120" height="34" rx="17" '
            f'style="stroke: var(--{room}); stroke-width: 1.5"/>',
            sign(x + 22, top + 17, room),
            text(x + 38, top + 21, name, "bold"),
        )
        if sign is not question:
            at = x + 60 if sign is tick else 288 + 60
            bend = arrows_from + 12
            picture.add(*arrow([(160, arrows_from), (160, bend), (at, bend), (at, top)]))


def sound_to_verdict() -> Picture:
    """What happens to one clip on the board."""
    picture = Picture("sound-to-verdict", *STORIES["sound-to-verdict"])
    column = Column(picture, 28, 268)
    column.card(DISK, "", "A sound file, an array, a pipe", glyph=wave)
    column.flows(length=18)
    top = column.y
    column.skip(28)
    reader = column.card(
        RUNTIME, "clip_reader.py", "One path for all: channel,", "rate, what is damaged", glyph=wave
    )
    column.flows("Samples", "(n,) float32")
    logmel = column.card(
        RUNTIME,
        "logmel.py",
        "Framed, transformed, in dB;",
        "a stream is bit for bit a clip",
        glyph=spectrogram,
    )
    column.flows("LogMel", "(frames, bands) dB")
    view = column.card(
        RUNTIME,
        "views.py",
        "Frames, or statistics over",
        "them, standardised and cut",
        glyph=windows,
    )
    column.flows("Windows", "(N, T, M)")
    backend = column.card(
        RUNTIME,
        "batch_runner.py, backends/",
        "Batches through ONNX",
        "Runtime or an engine",
        glyph=coupling,
    )
    column.flows("Nll", "(N,) nats per dimension")
    verdict = column.card(
        RUNTIME,
        "verdicts.py",
        "Their mean is the score:",
        "above the threshold or not?",
        glyph=judged,
    )
    bottom = column.y + 10
    frame(picture, 20, top, 284, bottom - top, "scorer.py puts these together", room=RUNTIME)
    supply(
        picture,
        "the bundle",
        [
            (middle(reader) + 6, ("rate", "and channel")),
            (middle(logmel), ("filterbank",)),
            (middle(view), ("mean", "and scale")),
            (middle(backend), ("flow.onnx", "or its engine")),
            (middle(verdict), ("threshold",)),
        ],
        top=top,
        bottom=bottom,
    )
    chips = bottom + 32
    refused = [(28, middle(reader)), (12, middle(reader)), (12, bottom + 12)]
    picture.add(*arrow([*refused, (72, bottom + 12), (72, chips)], dashed=True))
    verdict_chips(picture, chips, bottom)
    return finish(picture, chips + 56, RUNTIME, DISK)


def bundle_to_engine() -> Picture:
    """How a board makes, proves and uses an engine of its own."""
    picture = Picture("bundle-to-engine", *STORIES["bundle-to-engine"])
    column = Column(picture, 28, 364)
    column.card(
        DISK,
        "fan_id_00.edgeflow",
        "The same file on every board;",
        "no engine is in it",
        glyph=sheets,
    )
    column.flows("edgeflow build")
    column.card(
        RUNTIME,
        "backends/tensorrt/: the build",
        "Is there a driver, a GPU, memory, disk? Is",
        "nobody else building?",
        glyph=chip,
    )
    column.flows("build order", "graph, batch sizes, workspace")
    top = column.y
    column.skip(28)
    column.card(
        RUNTIME,
        "parse",
        "The graph's own types, strictly; a profile for",
        "each batch size",
        glyph=coupling,
    )
    column.flows("network")
    column.card(RUNTIME, "compile", "Slow, and once; a timing cache is kept")
    column.flows("candidate")
    column.card(
        RUNTIME,
        "golden.py: the proof",
        "The golden recording, on this GPU, in every",
        "batch size: the recorded scores?",
        glyph=balance,
    )
    bottom = column.y + 10
    frame(
        picture, 20, top, 380, bottom - top, "a process of its own, which may crash", room=RUNTIME
    )
    column.y = fork(
        picture,
        bottom,
        (DISK, "fan_id_00.engines/", ("It takes the old one's", "place, in one step")),
        (DISK, "the old engine", ("stays, and one line", "says why")),
    )
    picture.add(*flows(110, column.y, 26, "edgeflow score"))
    column.skip(26)
    column.card(
        RUNTIME,
        "backends/select.py",
        "Graph, TensorRT, GPU and driver: are they still",
        "those that it was built with?",
    )
    bottom = fork(
        picture,
        column.y,
        (RUNTIME, "backends/tensorrt/", ("One thread owns the", "GPU; batches overlap")),
        (RUNTIME, "onnxruntime.py", ("The CPU, and one line", "that says why")),
    )
    return finish(picture, bottom + 24, RUNTIME, DISK)
