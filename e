error: ONNX model opsets.onnx cannot be read: No such file or directory; check the path
