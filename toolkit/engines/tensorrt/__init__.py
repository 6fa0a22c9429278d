"""Engines of TensorRT and TensorRT for RTX: building them in a process of its own, and running them."""
