"""What a checkpoint, a bundle or an ONNX model holds: plain reports, ready for JSON."""
