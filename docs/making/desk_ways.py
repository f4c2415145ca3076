"""The two ways that are gone at the desk: from recordings to a run, from a run to a bundle."""

from __future__ import annotations

from drawing import Picture, arrow, card, flows, text
from glyphs import (
    balance,
    bits,
    curves,
    folding,
    judged,
    machines,
    sheets,
    spectrogram,
    strip,
    wave,
)
from layout import DISK, EXPORT, RUNTIME, WORKSTATION, Column, finish, frame, middle, supply
from stories import STORIES


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
        "with as many outliers; or",
        "closed_form.py fits at once",
        glyph=curves,
    )
    bottom = column.y + 10
    frame(picture, 20, top, 284, bottom - top, "training/train.py", room=WORKSTATION)
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
    column.card(EXPORT, "onnx_from_model.py", "One graph; its operators", "are checked")
    column.flows("float32 ONNX")
    parity = column.card(
        EXPORT, "parity.py", "The scores of the trained", "model, or no bundle", glyph=balance
    )
    column.flows()
    threshold = column.card(RUNTIME, "calibration.py", "Where normal ends", glyph=judged)
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
        RUNTIME, "bundle_writer.py", "A golden recording, and a", "hash for each member"
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
            (middle(threshold), ("not learned",)),
            (middle(typed), ("learned",)),
            (middle(gate), ("held out", "and test")),
            (middle(audio), ("held out",)),
            (middle(golden), ("one",)),
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
    return finish(picture, column.y + 24, WORKSTATION, EXPORT, RUNTIME, DISK)
