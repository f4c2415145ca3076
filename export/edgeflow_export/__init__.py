"""From a trained run to a bundle: folding, ONNX, operator lint, parity gate, threshold."""
