"""The four ways through the house, drawn into docs/pictures/ by this script."""

from __future__ import annotations

from pathlib import Path

from drawing import Picture, arrow, card, flows, text
from glyphs import (
    balance,
    bits,
    chip,
    coupling,
    cross,
    curves,
    folding,
    judged,
    machines,
    question,
    sheets,
    spectrogram,
    strip,
    tick,
    wave,
    windows,
)
from layout import (
    DISK,
    EXPORT,
    RUNTIME,
    WORKSTATION,
    Column,
    finish,
    frame,
    middle,
    supply,
)

PICTURES = Path(__file__).parent.parent / "pictures"

STORIES = {
    "sound-to-verdict": (
        "From a sound to a verdict",
        "On the board, the scorer puts six stages together. The clip reader takes a file, an "
        "array or a pipe and gives samples, or says that the clip cannot be judged: its "
        "verdict is then unknown. Samples become log-Mel frames, a view standardises them and "
        "cuts windows, a backend gives each window its negative log-likelihood in batches, "
        "and the verdict is normal or anomalous as their mean lies below or above the "
        "threshold. The bundle supplies the rate, the filterbank, mean and scale, the flow "
        "and the threshold.",
    ),
    "recordings-to-run": (
        "From recordings to a run",
        "The data set says which clip is whose. Clips of all machines of a type are read as "
        "on the board, through a cache keyed by their content, and stand as one tensor on the "
        "training device, of which windows are views; a tenth of each machine's clips is held "
        "out. For the losses with outliers a model is first trained on every machine of the "
        "type, once, and kept in the cache: it is the start, and its negative log-likelihood "
        "is c. The training loop then takes batches of the machine's windows and as many of "
        "outliers, writes a checkpoint after an epoch, and leaves a run: its record, its "
        "standard, its checkpoint and its log.",
    ),
    "run-to-bundle": (
        "From a run to a bundle",
        "The trained model is folded: ActNorm, invertible convolutions and the log- "
        "determinant melt into weights and one constant. The folded module is exported to "
        "ONNX, its operators are checked, and its scores must be those of the trained model. "
        "The scores of held-out clips set the threshold. A reduced precision is written into "
        "the graph and must pass a gate against float32 on held-out and test clips; if it is "
        "chosen automatically, couplings that cost too much stay wider until the gate is "
        "passed. If asked for, a second graph starts at the samples. A golden recording is "
        "scored, and all is written into one file, each member with its hash. Every clip is "
        "read and cut as on the board.",
    ),
    "bundle-to-engine": (
        "From a bundle to an engine",
        "On the board, edgeflow build first asks the driver for a GPU and looks at memory and "
        "disk, then starts a process of its own, which may crash without harm. That process "
        "parses the graph as a strongly typed network with one profile a batch size, compiles "
        "it, and replays the golden recording on the GPU in every batch size. An engine that "
        "gives the recorded scores takes the old one's place in one step; otherwise the old "
        "one stays, and one line says why. When clips are scored, an engine is used only if "
        "graph, TensorRT, GPU and driver are those that it was built with; else the CPU runs "
        "the bundle's ONNX graph.",
    ),
}
"""What each shows, in a few words and in many, for whoever cannot see it."""


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
    view = column.card(RUNTIME, "views.py", "Each band standardised,", "then cut", glyph=windows)
    column.flows("Windows", "(N, T, M)")
    backend = column.card(
        RUNTIME,
        "batching.py, backends/",
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


def recordings_to_run() -> Picture:
    """What becomes of the recordings of one machine and its sisters."""
    picture = Picture("recordings-to-run", *STORIES["recordings-to-run"])
    column = Column(picture, 28, 268)
    column.card(
        DISK, "sounds/fan/train/", "The machine to watch", "and its sisters", glyph=machines
    )
    column.flows()
    column.card(WORKSTATION, "dataset.py", "Which clip is whose")
    column.flows("paths")
    reading = column.card(
        RUNTIME,
        "clip_reader.py, logmel.py",
        "Read as on the board,",
        "by all cores",
        glyph=spectrogram,
    )
    column.flows("LogMel", "(frames, bands) dB", length=28)
    top = column.y
    column.skip(28)
    column.card(
        WORKSTATION,
        "training/corpus.py",
        "The whole type as one",
        "tensor, part held out;",
        "views.py gives its windows",
        glyph=strip,
    )
    start = column.y
    column.skip(26)
    column.x, column.w = 58, 238
    picture.add(*flows(92, start, 26, "all machines"))
    pre = column.card(
        WORKSTATION,
        "training/pretraining.py",
        "For losses with outliers:",
        "plain NLL, made once",
    )
    picture.add(*flows(92, column.y, 26, "start and c"))
    column.skip(26)
    picture.add(*arrow([(43, start), (43, column.y)]))
    column.x, column.w = 28, 268
    loop = column.card(
        WORKSTATION,
        "training/loop.py",
        "Each batch of the machine",
        "with as many outliers;",
        "checkpoint.py keeps epochs",
        glyph=curves,
    )
    bottom = column.y + 10
    frame(picture, 20, top, 284, bottom - top, "training/run.py", room=WORKSTATION)
    supply(
        picture,
        "the cache",
        [(middle(reading) + 10, ("log-Mel, by", "content")), (middle(pre), ("flow", "and c"))],
        top=reading[0],
        bottom=pre[1],
        both=True,
    )
    picture.add(*card(318, loop[0], 92, loop[1] - loop[0], WORKSTATION))
    picture.add(*arrow([(318, middle(loop)), (296, middle(loop))]))
    for k, file in enumerate(("models/", "losses.py")):
        picture.add(text(332, middle(loop) - 5 + 20 * k, file, "file", WORKSTATION))
    column.skip(10)
    column.flows("after an epoch")
    column.card(DISK, "run/", "run.json, log.jsonl, mean", "and scale, checkpoint", glyph=sheets)
    return finish(picture, column.y + 24, RUNTIME, WORKSTATION, DISK)


def run_to_bundle() -> Picture:
    """How a trained model becomes the one file that travels."""
    picture = Picture("run-to-bundle", *STORIES["run-to-bundle"])
    column = Column(picture, 28, 268)
    column.card(DISK, "run/", "The trained model, mean and", "scale, which clips it learned")
    column.flows()
    top = column.y
    column.skip(28)
    column.card(WORKSTATION, "models/: fold()", "Constants melt into weights", glyph=folding)
    column.flows("plain module")
    column.card(EXPORT, "onnx_from_flow.py", "One graph; operators.py looks", "at every operator")
    column.flows("float32 ONNX")
    parity = column.card(
        EXPORT, "parity.py", "The scores of the trained", "model, or no bundle", glyph=balance
    )
    column.flows()
    threshold = column.card(EXPORT, "threshold.py", "Where normal ends", glyph=judged)
    column.flows()
    typed = column.card(
        EXPORT, "typed_onnx.py", "float16 or int8 in the", "couplings' networks", glyph=bits
    )
    column.flows("typed ONNX", "auto: again, wider")
    gate = column.card(
        EXPORT, "gate.py", "Ranks, AUC and verdicts of", "float32, or refused", glyph=balance
    )
    column.flows()
    audio = column.card(
        EXPORT, "audio_onnx.py", "If asked for: a graph that", "starts at the samples", glyph=wave
    )
    column.flows()
    golden = column.card(
        EXPORT, "bundle_writer.py", "A golden recording, and a", "hash for each member"
    )
    bottom = column.y + 10
    frame(picture, 20, top, 284, bottom - top, "bundle_from_run.py", room=EXPORT)
    again = [(28, middle(gate)), (12, middle(gate)), (12, middle(typed)), (28, middle(typed))]
    picture.add(*arrow(again, dashed=True))
    supply(
        picture,
        "its clips",
        [
            (middle(parity), ("held out", "and learned")),
            (middle(threshold), ("held out",)),
            (middle(typed), ("learned",)),
            (middle(gate), ("held out", "and test")),
            (middle(audio), ("held out",)),
            (middle(golden), ("one held out",)),
        ],
        top=parity[0] - 42,
        bottom=bottom,
    )
    column.skip(10)
    column.flows("one file")
    column.card(
        DISK,
        "fan_id_00.edgeflow",
        "Manifest, graphs, front end,",
        "golden recording",
        glyph=sheets,
    )
    return finish(picture, column.y + 24, WORKSTATION, EXPORT, DISK)


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
    picture.add(*arrow([(110, bottom), (110, bottom + 30)]), tick(96, bottom + 14, RUNTIME))
    picture.add(*arrow([(310, bottom), (310, bottom + 30)], dashed=True))
    picture.add(cross(296, bottom + 14, WORKSTATION))
    below = bottom + 30
    picture.add(
        *card(
            28,
            below,
            176,
            62,
            DISK,
            file="fan_id_00.engines/",
            words=["It takes the old one's", "place, in one step"],
        ),
        *card(
            216,
            below,
            176,
            62,
            DISK,
            file="the old engine",
            words=["stays, and one line", "says why"],
        ),
    )
    column.y = below + 62
    picture.add(*flows(110, column.y, 26, "edgeflow score"))
    column.skip(26)
    column.card(
        RUNTIME,
        "backends/select.py",
        "Graph, TensorRT, GPU and driver: are they still",
        "those that it was built with?",
    )
    low = column.y
    for x, sign, room in ((110, tick, RUNTIME), (310, cross, WORKSTATION)):
        picture.add(*arrow([(x, low), (x, low + 30)], dashed=sign is cross))
        picture.add(sign(x - 14, low + 14, room))
    picture.add(
        *card(
            28,
            low + 30,
            176,
            62,
            RUNTIME,
            file="backends/tensorrt/",
            words=["One thread owns the", "GPU; batches overlap"],
        ),
        *card(
            216,
            low + 30,
            176,
            62,
            RUNTIME,
            file="onnxruntime.py",
            words=["The CPU, and one line", "that says why"],
        ),
    )
    return finish(picture, low + 116, RUNTIME, DISK)


def write(picture: Picture, folder: Path = PICTURES) -> None:
    """Put a picture into its file."""
    (folder / f"{picture.name}.svg").write_text(picture.svg(), encoding="utf-8")


WAYS = (sound_to_verdict, recordings_to_run, run_to_bundle, bundle_to_engine)

if __name__ == "__main__":
    for draw in WAYS:
        write(draw())
