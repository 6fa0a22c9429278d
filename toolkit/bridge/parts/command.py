"""The command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from toolkit.bridge.parts.drive import record_dataset, record_inputs
from toolkit.bridge.parts.environment import BridgeError, require_new
from toolkit.bridge.parts.losses import dump_losses
from toolkit.bridge.parts.tree import Tree, cuda_as_here


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; gives the exit status: 2 for bad input."""
    parser = argparse.ArgumentParser(description="Record a UniAD model in its own environment.")
    parser.add_argument("config", help="the model's config (.py)")
    parser.add_argument("checkpoint", help="its checkpoint (.pth)")
    parser.add_argument("-o", "--output", required=True, help="npz to write, with --losses JSON")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--inputs", metavar="NPZ", help="frames as tensors, made by uniad-toolkit")
    what.add_argument("--dataset", metavar="A:B", help="frames of the test dataset, from A on, B left out")
    what.add_argument("--losses", metavar="N", type=int, help="the losses of a clip of the training dataset")
    parser.add_argument("--tf32", action="store_true", help="leave TF32 as torch has it")
    parser.add_argument("--ends-only", action="store_true", help="tracks and BEV of the first and last frame alone")
    parser.add_argument("--yaw-convention", choices=("clockwise", "heading"), help="if the tree does not tell")
    given = parser.parse_args(arguments)
    options = {"tf32": given.tf32, "all_states": not given.ends_only, "yaw_convention": given.yaw_convention}
    try:
        if given.losses is not None and given.losses < 0:
            raise BridgeError(f"--losses {given.losses}: clips count from 0")
        indices = None if given.dataset is None else _range(given.dataset)
        require_new(given.output)
        tree = Tree(given.config, given.checkpoint)
        if given.inputs is not None:
            record_inputs(tree, given.output, given.inputs, **options)
        elif indices is not None:
            record_dataset(tree, given.output, indices, **options)
        else:
            model = tree.parallel(tree.model(training=True))
            with cuda_as_here(tree.device):
                (batch,) = tree.batches("train", [given.losses])
                dump_losses(model, batch, given.output, tree.config, given.checkpoint)
    except BridgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"error: {error}; run this in the model's environment, in the root of its tree", file=sys.stderr)
        return 2
    return 0


def _range(text: str) -> range:
    first, _, end = text.partition(":")
    if not (first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise BridgeError(f"--dataset {text}: give the first frame and the one after the last, such as 0:8")
    return range(int(first), int(end))


if __name__ == "__main__":
    sys.exit(main())
