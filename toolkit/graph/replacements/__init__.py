"""Nodes that TensorRT lacks, replaced by such as it has."""
