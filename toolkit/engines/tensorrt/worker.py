"""The process that builds one engine: TensorRT can damage its memory, end it, and write to its output as it likes.

Its arguments are a folder to work in and the number of the process that started it, its standard input a
`BuildRequest`. Its standard output carries one JSON object a line, for the process that started it: the phases of the
build, or the reason why there is no engine. Everything else that is written goes to the standard error output, which is
kept as the log.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import onnx

from toolkit.engines.tensorrt.build import build_engine
from toolkit.engines.tensorrt.gpu import compute_capability
from toolkit.engines.tensorrt.library import Target, load_library
from toolkit.engines.tensorrt.model import model_digests, prepare_model
from toolkit.engines.tensorrt.packing import pack
from toolkit.engines.tensorrt.progress import Phase
from toolkit.engines.tensorrt.request import ENGINE, BuildRequest
from toolkit.engines.tensorrt.settings import CustomOps
from toolkit.engines.tensorrt.sidecar import RequiredPlugin, Sidecar
from toolkit.errors import CheckFailed, InputError
from toolkit.graph.model_file import claim_model, write_model
from toolkit.ops.bodies import custom_nodes
from toolkit.ops.spec import CustomOp
from toolkit.plugin.manager import PluginManager
from toolkit.stops import end_with_parent
from toolkit.storage.claims import writing
from toolkit.storage.files import sha256_file
from toolkit.streams import guarded
from toolkit.text import one_line
from toolkit.versions import PACKAGE, package_version

MODEL = "model.onnx"


def main() -> int:
    """Build what is asked for; 0 done, 1 TensorRT or the comparison failed, 2 the request cannot be carried out."""
    end_with_parent(int(sys.argv[2]))
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stderr = guarded(sys.stderr)

    def send(**values: object) -> None:
        print(json.dumps(values), file=channel, flush=True)

    try:
        request = BuildRequest.from_json(sys.stdin.read())
        build(request, Path(sys.argv[1]), lambda phases: send(phases=[asdict(phase) for phase in phases]))
    except (InputError, CheckFailed) as error:
        send(error=str(error))
        return 2 if isinstance(error, InputError) else 1
    except Exception as error:
        traceback.print_exc()
        send(error=one_line(error))
        return 1
    return 0


def build(request: BuildRequest, folder: Path, report: Callable[[list[Phase]], None]) -> None:
    """Write the engine and its sidecar to `folder`, which is for what is needed meanwhile as well.

    Raises InputError or CheckFailed if there is none to write.
    """
    started = time.perf_counter()
    engine, model = folder / ENGINE, claim_model(request.kept_model or folder / MODEL)
    settings = request.settings
    gpu = compute_capability()
    if settings.target is Target.TENSORRT and gpu is None:
        raise InputError(
            f"{settings.target.title} builds on the GPU that the engine is for, and there is none here; build with "
            f"--target {Target.TENSORRT_RTX.value}, or on a machine with that GPU"
        )
    trt = load_library(settings.target)
    plugins = PluginManager.load(request.plugin_files, disabled=request.disabled)
    offered = plugins.offered_custom_ops()
    ops = plugins.custom_ops()
    digests = model_digests(request.model)
    prepared = prepare_model(request.model, ops, plugins.submodules(), settings)
    path, *_ = write_model(prepared.model, model)
    checks = prepared.checks
    del prepared  # TensorRT needs the memory
    built = build_engine(trt, path, ops, settings, report, gpu=gpu, source=request.model)
    required = required_plugins(path, offered) if settings.custom_ops is CustomOps.PLUGIN else ()
    with writing(request.engine, "output"):
        engine.write_bytes(pack(built.data) if settings.pack else built.data)
    Sidecar(
        sha256=sha256_file(engine),
        bytes=engine.stat().st_size,
        onnx=digests,
        target=settings.target.value,
        version=trt.__version__,
        capabilities=settings.capabilities or (gpu or "",),
        precision=settings.precision.value,
        custom_ops=settings.custom_ops.value,
        tensors=built.tensors,
        plugins=required,
        layers=built.layers,
        seconds=round(time.perf_counter() - started, 1),
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10,
        toolkit=package_version(PACKAGE),
        checks=checks,
        unpacked=len(built.data) if settings.pack else None,
    ).write(engine)


def required_plugins(model: Path, offered: Sequence[tuple[str, CustomOp]]) -> tuple[RequiredPlugin, ...]:
    """The custom ops of a model in plugin form, and which of the toolkit's plugins have them."""
    nodes = Counter(node.op_type for node in custom_nodes(onnx.load(model, load_external_data=False).graph.node))
    return tuple(RequiredPlugin(op.name, provider, nodes[op.name]) for provider, op in offered if op.name in nodes)


if __name__ == "__main__":
    sys.exit(main())
