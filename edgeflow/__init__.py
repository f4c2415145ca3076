"""edgeflow, the workstation's side: data, flows, losses, training, evaluation, the front door."""

__version__ = "0.1.0"
