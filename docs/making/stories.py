"""What each picture shows, in a few words and in many, for whoever cannot see it."""

from __future__ import annotations

STORIES = {
    "sound-to-verdict": (
        "From a sound to a verdict",
        "On the board, the scorer puts six stages together. The clip reader takes a file, an "
        "array or a pipe and gives samples, or says that the clip cannot be judged: its "
        "verdict is then unknown. Samples become log-Mel frames, a view standardises them, or "
        "statistics over them, and cuts windows, a backend gives each window its negative "
        "log-likelihood in batches, and the verdict is normal or anomalous as their mean lies "
        "below or above the threshold. The bundle supplies the rate, the filterbank, mean and "
        "scale, the flow and the threshold.",
    ),
    "recordings-to-run": (
        "From recordings to a run",
        "The data set says which clip is whose. Clips of all machines of a type are read as "
        "on the board, through a cache keyed by their content, and stand as one tensor on the "
        "training device, of which windows are views. The linear flow is fitted to them at once. "
        "For a flow that is trained a tenth of each machine's clips is held out, and another "
        "judges epochs. For the losses with outliers a model is first trained on every machine "
        "of the type, once, and kept in the cache: it is the start, and its negative "
        "log-likelihood is c. The training loop then takes batches of the machine's windows and "
        "as many of outliers, writes a checkpoint after an epoch, and leaves a run: its record, "
        "its standard, its checkpoint and its log.",
    ),
    "run-to-bundle": (
        "From a run to a bundle",
        "The trained model is folded: ActNorm, invertible convolutions and the log-"
        "determinant melt into weights and one constant. The folded module is exported to "
        "ONNX, its operators are checked, and its scores must be those of the trained model. "
        "The scores of clips that were not learned set the threshold. A reduced precision is "
        "written into the graph and must pass a gate against float32 on held-out and test clips; "
        "if it is chosen automatically, couplings that cost too much stay wider until the gate "
        "is passed. If asked for, a second graph starts at the samples. A golden recording is "
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
"""Title and description by the name of the picture."""
