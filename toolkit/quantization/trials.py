"""Quantized versions of a bundle's network, each run over a drive beside FP32."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from glob import escape
from itertools import islice
from pathlib import Path

import numpy as np
from onnx import ModelProto

from toolkit.bundle import Bundle
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.errors import CheckFailed
from toolkit.graph.model_file import write_model
from toolkit.ops.spec import CustomOp
from toolkit.quantization.drive import Drive
from toolkit.quantization.gates import Finding, judge
from toolkit.quantization.insert import Quantized, quantize_model
from toolkit.quantization.ranges import Ranges
from toolkit.quantization.scheme import Scheme
from toolkit.quantization.seen import Seen, watch
from toolkit.specs import Submodule
from toolkit.storage.outputs import scratch_folder
from toolkit.text import quoted


@dataclass(frozen=True, eq=False)
class Trials:
    """A bundle with its `plain` model (`toolkit.quantization.candidates.plain_model`), and what FP32 does on a drive.

    `scratch` is a folder for models; `scheme` says what is not to be quantized whatever is tried.
    """

    bundle: Bundle
    plain: ModelProto
    ranges: Ranges
    scheme: Scheme
    ops: Sequence[CustomOp]
    submodules: Sequence[Submodule]
    drive: Drive
    expected: Sequence[Seen]
    scratch: Path
    threads: int | None = None

    def quantized(self, nodes: frozenset[str]) -> Quantized:
        """The model with these layers quantized."""
        only = tuple(sorted(escape(node) for node in nodes))
        return quantize_model(self.plain, self.ranges, replace(self.scheme, only=only), self.ops)

    def run(self, nodes: frozenset[str], frames: int) -> tuple[Finding, ...]:
        """What gates find with these layers quantized, over the drive's first frames."""
        with written(self.quantized(nodes).model, self.bundle, self.scratch) as bundle:
            session = OnnxRuntimeSession(bundle, threads=self.threads)
            actual = watch(bundle, session, self.submodules, islice(self.drive, frames))
            return judge(self.expected[:frames], list(actual))


def drive_in_fp32(
    bundle: Bundle,
    submodules: Sequence[Submodule],
    frames: Iterable[Mapping[str, np.ndarray]],
    threads: int | None = None,
) -> tuple[Seen, ...]:
    """What the bundle's own model does in frames. Raises CheckFailed for results that are not finite."""
    seen = tuple(watch(bundle, OnnxRuntimeSession(bundle, threads=threads), submodules, frames))
    broken = next(((number, frame.broken[0]) for number, frame in enumerate(seen) if frame.broken), None)
    if broken is not None:
        raise CheckFailed(f"{quoted(broken[1])} is not finite in frame {broken[0]} in FP32; `verify` the bundle")
    return seen


@contextmanager
def written(model: ModelProto, bundle: Bundle, scratch: Path) -> Iterator[Bundle]:
    """The bundle with another model, in a folder of its own that lasts as long as the block."""
    with scratch_folder(scratch / "model") as folder:
        write_model(model, folder / bundle.onnx.name)
        yield replace(bundle, path=folder)
