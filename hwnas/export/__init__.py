"""From a subnet to files that run: PyTorch, ONNX, the deploy folder and its verification."""
