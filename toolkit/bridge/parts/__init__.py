"""Records what a UniAD model does in the environment that it was trained in, for `uniad-toolkit verify --against`.

The file stands alone: Python 3.8, numpy, and torch from 1.9 on; the rest comes from the tree whose model it is. It
changes no result of the model: its methods are wrapped while frames are recorded, and what they are given and give is
copied at once, before the model goes on to change it.

In a test script, after the checkpoint is loaded (any dataset that is not shuffled, any wrapper and launcher):

    from uniad_bridge import attach
    attach(model, "dump.npz", frames=8)

By itself, in the root of the tree, with tensors of `uniad-toolkit`, or with frames a to b of the test dataset:

    python uniad_bridge.py CONFIG CHECKPOINT --inputs frames.npz -o dump.npz
    python uniad_bridge.py CONFIG CHECKPOINT --dataset 0:8 -o dump.npz

The losses of a clip, without randomness, and the clip in losses.npz, for `uniad-toolkit train`; in a training script:

    from uniad_bridge import dump_losses
    dump_losses(model, data, "losses.json")  # data is a batch of one clip, as the loader gives it

    python uniad_bridge.py CONFIG CHECKPOINT --losses 0 -o losses.json  # clip 0 of the training dataset

A dump is an npz: `f{t}.in.NAME` and `f{t}.out.NAME` are frame t's inputs and outputs under the names of the deployed
graph, `f{t}.aux.NAME` is more that tells, and `meta` a JSON text on versions, files and conventions.
"""
