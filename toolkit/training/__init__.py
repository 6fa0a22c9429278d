"""Training: clips of frames with their ground truth, the losses that submodules state, and what steps over them."""
