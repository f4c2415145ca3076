"""TensorRT engines: found or refused, built on the board that runs them, run on its GPU."""
