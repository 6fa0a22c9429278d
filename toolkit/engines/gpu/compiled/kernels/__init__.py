"""Kernels of Triton, which block of a result their programs compute, and their launches."""
