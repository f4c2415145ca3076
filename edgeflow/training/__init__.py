"""From cached features to a trained run: the loop, its checkpoints, pre-training."""
