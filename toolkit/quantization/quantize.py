"""From a bundle and frames to a quantized bundle that still drives: calibrate, choose by measurement, write."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path

import numpy as np

from toolkit.bundle import MANIFEST, Bundle
from toolkit.conversion.prepare import Progress
from toolkit.errors import InputError
from toolkit.evaluation.plots import draw_plot
from toolkit.graph.model_file import read_model, write_model
from toolkit.graph.precision.policy import FP16, means
from toolkit.ops.spec import CustomOp
from toolkit.quantization.calibration import collect
from toolkit.quantization.calibration_file import Calibration, reused
from toolkit.quantization.candidates import Candidate, find_candidates, plain_model, tensors_to_calibrate
from toolkit.quantization.drive import Drive
from toolkit.quantization.insert import quantize_model
from toolkit.quantization.methods import Method
from toolkit.quantization.record import CALIBRATION, PLOT, QUANTIZATION, QuantizationRecord
from toolkit.quantization.scheme import QuantizationMode, Scheme
from toolkit.quantization.sensitivity import Lengths, choose
from toolkit.quantization.trials import Trials, drive_in_fp32, written
from toolkit.specs import Submodule
from toolkit.storage.claims import FileOutput
from toolkit.storage.files import sha256_file

SEARCH_FRAMES = 12
"""Beginning of a drive on which single submodules, layer classes and steps of the search are measured."""
Track = Callable[[Drive, str], Iterable[Mapping[str, np.ndarray]]]
"""The frames of a drive, while how far it is, and what for, is shown."""


@dataclass(frozen=True)
class Settings:
    """How to quantize. `keep` are patterns of nodes, op types or submodules that stay; `seconds` bounds the search."""

    mode: QuantizationMode = QuantizationMode.INT8
    method: Method = Method.MSE
    keep: tuple[str, ...] = ()
    seconds: float = float("inf")
    threads: int | None = None


@dataclass(frozen=True)
class Frames:
    """What the ranges come from, unless these are known, and what gates are held against."""

    calibration: Drive | None
    drive: Drive


@dataclass(frozen=True)
class Cache:
    """A calibration to be reused, or the file that one is to be written to; at most one of them."""

    read: Path | None = None
    write: FileOutput | None = None


@dataclass(frozen=True, eq=False)
class Like:
    """An earlier quantization to be repeated with other weights: `layers` by their nodes, and the ranges it had."""

    layers: tuple[str, ...]
    calibration: Calibration

    @classmethod
    def read(cls, quantized: Bundle, bundle: Bundle) -> Like:
        """That of a quantized bundle, for `bundle`. Raises InputError if it is none, or of another network."""
        record = QuantizationRecord.read(quantized)
        if record is None:
            raise InputError(f"bundle {quantized.path} is not quantized; give --like one that `quantize` has written")
        for file in (QUANTIZATION, CALIBRATION):
            if not quantized.is_intact(file):
                raise InputError(
                    f"{quantized.path / file} is not the file that `quantize` wrote; quantize by --calibration"
                )
        sizes, wanted = quantized.config.dimensions(), bundle.config.dimensions()
        for name in sizes.keys() | wanted.keys():
            if sizes.get(name) != wanted.get(name):
                raise InputError(
                    f"bundle {quantized.path} is of another network than {bundle.path}: {name} is {sizes.get(name)}, "
                    f"not {wanted.get(name)}; quantize by --calibration"
                )
        return cls(record.layers, Calibration.read(quantized.path / CALIBRATION))


def require_unquantized(bundle: Bundle) -> None:
    """Raise InputError for a quantized bundle."""
    if bundle.quantization is not None:
        raise InputError(f"bundle {bundle.path} is quantized already; quantize the one that it was made of")


def require_comparable(reference: Bundle, bundle: Bundle) -> None:
    """Raise InputError for a bundle that is no FP32 network which gives what `bundle` gives."""
    if reference.quantization is not None:
        raise InputError(f"bundle {reference.path} is quantized; give --reference one of FP32")
    if (reference.results, reference.config.dimensions()) != (bundle.results, bundle.config.dimensions()):
        raise InputError(
            f"bundle {reference.path} gives other tensors than {bundle.path}; give --reference the original"
        )


def quantize_bundle(
    bundle: Bundle,
    folder: Path,
    frames: Frames,
    settings: Settings,
    submodules: Sequence[Submodule],
    ops: Sequence[CustomOp],
    *,
    cache: Cache = Cache(),
    like: Like | None = None,
    reference: Bundle | None = None,
    progress: Progress = lambda step: nullcontext(),
    track: Track = lambda drive, what: drive,
) -> QuantizationRecord:
    """Write the quantized bundle into a folder that is there and empty, all but its manifest (`describe`).

    Gates compare with FP32 of `reference`, by default of the bundle itself. Layers are those of `like`, by its ranges,
    or else any, by ranges that are found on the frames. Raises InputError for a bundle of which nothing can be
    quantized, for patterns that match nothing, and for a `cache` or `like` that is of something else; CheckFailed if
    gates hold for no choice of layers, and if FP32 itself is not finite.
    """
    started = time.monotonic()
    scheme = Scheme(settings.mode, settings.keep, policy=FP16.with_exceptions(submodules))
    with progress("read the model"):
        plain = plain_model(read_model(bundle.onnx), ops)
        candidates = [c for c in find_candidates(plain, ops) if c.layer_class in scheme.classes]
        candidates = [c for c in candidates if not stays(c, scheme.policy.exceptions)]
    if like is not None:
        calibration = like.calibration
        missing = sorted({*like.layers} - {candidate.node for candidate in candidates})
        if missing:
            raise InputError(
                f"bundle {bundle.path} has no layer {missing[0]!r} to quantize, as that of --like has; quantize by "
                "--calibration"
            )
        scheme = replace(scheme, only=tuple(map(escape, like.layers)))
    elif cache.read is not None:
        assert frames.calibration is not None
        calibration = reused(cache.read, bundle, frames.calibration, settings.mode, settings.method)
    else:
        assert frames.calibration is not None
        with written(plain, bundle, folder) as prepared:
            tracked = track(frames.calibration, "calibrate")
            collected = collect(prepared, tensors_to_calibrate(candidates), tracked, threads=settings.threads)
        with progress("find the limits of all tensors"):
            calibration = Calibration.of(bundle, frames.calibration, collected, settings.mode, settings.method)
        if cache.write is not None:
            calibration.write(cache.write)
    whole = quantize_model(plain, calibration.ranges, scheme, ops)
    layers = [candidate for candidate in candidates if candidate.node in whole.nodes]
    if not layers:
        node, reason = next(iter(whole.kept.items()), ("", "it has no convolution and no linear layer"))
        raise InputError(f"nothing of bundle {bundle.path} can be quantized: {f'{node}: ' if node else ''}{reason}")
    expected = drive_in_fp32(reference or bundle, submodules, track(frames.drive, "drive in FP32"), settings.threads)
    trials = Trials(
        bundle, plain, calibration.ranges, scheme, ops, submodules, frames.drive, expected, folder, settings.threads
    )
    choice = choose(
        layers,
        trials.run,
        Lengths(min(SEARCH_FRAMES, len(expected)), len(expected)),
        lambda: time.monotonic() - started > settings.seconds,
        progress,
    )
    chosen = trials.quantized(choice.nodes)
    record = QuantizationRecord(
        original=bundle.identity,
        source=calibration.source,
        drive=frames.drive.address,
        frames=len(expected),
        layers=chosen.nodes,
        kept={**whole.kept, **choice.kept},
        effects=choice.effects,
        steps=choice.steps,
    )
    with progress("write"):
        write_model(chosen.model, folder / bundle.onnx.name)
        shutil.copyfile(bundle.weights, folder / bundle.weights.name)
        calibration.write(folder / CALIBRATION)
        (folder / PLOT).write_bytes(draw_plot(record.plot()))
    return record


def stays(candidate: Candidate, patterns: Sequence[str]) -> bool:
    """Whether a layer is one that submodules keep in FP32 at any precision: its ranges are of no use."""
    return any(means(pattern, candidate.node, candidate.op, candidate.submodule) for pattern in patterns)


def describe(bundle: Bundle, folder: Path, record: QuantizationRecord) -> Bundle:
    """Write the record and the manifest into the folder of a quantized bundle, made of `bundle`."""
    record.write(folder)
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name != MANIFEST]
    quantized = replace(
        bundle,
        path=folder,
        sha256={path.name: sha256_file(path) for path in files},
        sizes={path.name: path.stat().st_size for path in files},
        provenance={**bundle.provenance, "quantization": record.summary()},
        engines=(),
    )
    quantized.write()
    return quantized
