"""Quantization: which layers compute with 8-bit numbers, the ranges of their tensors, and the graph pass."""
