"""`uniad-toolkit rewrite`: graph passes over any ONNX model."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.console import print_line, print_written, step
from toolkit.hookspecs import hookimpl
from toolkit.precision import ReducedPrecision
from toolkit.quantization.scheme import QuantizationMode
from toolkit.storage.claims import claim_file, keep_apart

if TYPE_CHECKING:
    from toolkit.graph.graph_pass import GraphPass


class Form(StrEnum):
    """What stands behind the custom nodes of the result."""

    functional = "functional"
    plugin = "plugin"


class Interface(StrEnum):
    """Whose names and shapes the inputs and outputs have."""

    nvidia = "nvidia"
    nvidia_padded = "nvidia-padded"


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `rewrite`."""
    app.command("rewrite")(rewrite_command)


def rewrite_command(
    context: typer.Context,
    model: Annotated[Path | None, typer.Argument(help="ONNX file, or bundle folder.", show_default=False)] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="ONNX file to write.")] = None,
    named: Annotated[
        list[str] | None, typer.Option("--pass", help="Run this pass alone, or those named, in this order.")
    ] = None,
    skipped: Annotated[list[str] | None, typer.Option("--skip", help="Leave out a pass; repeatable.")] = None,
    extract: Annotated[
        list[str] | None,
        typer.Option(help="Cut out the nodes of this name, op type, submodule or pattern; repeatable."),
    ] = None,
    form: Annotated[
        Form, typer.Option(help="functional: custom nodes keep their functions and run in ONNX Runtime; plugin: not.")
    ] = Form.functional,
    precision: Annotated[
        ReducedPrecision | None,
        typer.Option(help="Compute in this type, strongly typed, where the policy finds it safe."),
    ] = None,
    keep_fp32: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of node names, op types or submodules to leave in FP32; repeatable."),
    ] = None,
    quantize: Annotated[
        QuantizationMode | None,
        typer.Option(help="Let layers compute with 8 bits, by the ranges of their tensors on --check-inputs."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of node names, op types or submodules not to quantize; repeatable."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Quantize nodes of such a pattern alone; repeatable.")] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Most that --precision and --quantize may change an output, relative to its largest value.",
        ),
    ] = None,
    interface: Annotated[
        Interface | None,
        typer.Option("--io", help="Inputs and outputs of the reference deployment; padded: as TensorRT for RTX can."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Prove the result equal to the model on random inputs.")
    ] = True,
    check_inputs: Annotated[
        Path | None,
        typer.Option(help="npz with an array for each input, by name: prove it on these in place of random ones."),
    ] = None,
    check_seconds: Annotated[
        float | None,
        typer.Option(min=1, max=1e6, help="Most that the proof may take; by default it goes by the size of the model."),
    ] = None,
    check_memory: Annotated[
        float | None, typer.Option(min=0.1, max=1e5, help="Most memory for passes and proof, in GB; likewise.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what each pass left alone and why, and what it changed.")
    ] = False,
    explain_pass: Annotated[
        list[str] | None, typer.Option("--explain-pass", help="Explain this pass alone; repeatable.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--explain-json", help="Write the explanation, node by node, to this file too.")
    ] = None,
    list_passes: Annotated[bool, typer.Option("--list", help="Describe the passes, and do nothing.")] = False,
) -> None:
    """Fuse, replace and clean up nodes of an ONNX model, and prove that it still computes the same.

    Works on models of any origin, opset 11 to 23. A pass that breaks the model is named, and nothing is written. What
    --precision and --quantize change of each output is measured, see docs/precision.md and docs/quantization.md; what
    --io changes cannot be compared.

    Example: [bold]uniad-toolkit rewrite detector.onnx -o detector.plugin.onnx --form plugin --explain[/]
    """
    import json

    from toolkit.bounded.limits import Limits
    from toolkit.cli.rewrite_tables import show_deviations, show_explanation, show_passes, show_runs
    from toolkit.errors import InputError
    from toolkit.graph.deviation import hold_to
    from toolkit.graph.extraction import extraction
    from toolkit.graph.given_inputs import read_given_inputs
    from toolkit.graph.model_file import claim_model, model_path, read_model, write_model
    from toolkit.graph.pipeline import rewrite
    from toolkit.graph.precision.policy import FP16, POLICIES
    from toolkit.graph.precision.precision_pass import precision_pass
    from toolkit.graph.proof import default_limits
    from toolkit.graph.provenance import explanation
    from toolkit.graph.selection import explained_names, select_passes
    from toolkit.ops.spec import OLDEST_OPSET
    from toolkit.quantization.rewriting import rewrite_quantized
    from toolkit.quantization.scheme import Scheme
    from toolkit.reference_interface.boundary import official_boundary
    from toolkit.storage.onnx_file import model_files
    from toolkit.storage.outputs import new_file

    offered = context.obj.graph_passes()
    passes = select_passes(offered, named or (), skipped or ())
    if list_passes:
        show_passes(offered)
        return
    if extract:
        passes = (extraction(extract), *(passes if named else ()))
    inputs = [model, check_inputs, *context.obj.files]
    explained = None if json_file is None else claim_file(json_file, inputs=inputs)
    if model is None or output is None:
        raise InputError("give the model to rewrite and, with -o, the file to write; see `rewrite --help`")
    target = claim_model(output, inputs=inputs, others=[explained])
    source = model_path(model)
    if keep_fp32 and precision is None:
        raise InputError("--keep-fp32 is of no use without --precision; give --precision fp16 or leave it out")
    if tolerance is not None and precision is None and quantize is None:
        raise InputError("--tolerance is of no use without --precision or --quantize; leave it out")
    for option, patterns in {"--keep": keep, "--only": only}.items():
        if patterns and quantize is None:
            raise InputError(f"{option} is of no use without --quantize; give --quantize int8 or leave it out")
    for option, given in {"--check-inputs": check_inputs is not None, "--tolerance": tolerance is not None}.items():
        if given and not check:
            raise InputError(f"{option} is of no use with --no-check; leave one of them out")
    ops = context.obj.custom_ops()
    with step("read the model"):
        proto = read_model(source)
    for claimed in filter(None, (target.model, target.weights, explained)):
        keep_apart(claimed, model_files(source))
    arrays = None if check_inputs is None else read_given_inputs(check_inputs, proto)
    opset, scheme = OLDEST_OPSET, None
    after: tuple[GraphPass, ...] = ()
    if precision is not None:
        policy = replace(POLICIES[precision], keep=tuple(keep_fp32 or ()))
        opset = policy.opset
        after = (precision_pass(policy.with_exceptions(context.obj.submodules()).with_ops(ops)),)
    if interface is not None:
        after = (*after, official_boundary(padded=interface is Interface.nvidia_padded))
    if quantize is not None:
        policy = FP16.with_exceptions(context.obj.submodules())
        scheme = Scheme(quantize, tuple(keep or ()), tuple(only or ()), policy=policy)
    run = [each.name for each in (*passes, *after)] + ([] if quantize is None else [quantize.value])
    names = explained_names(explain_pass or (), run)
    limits = default_limits(proto)
    limits = Limits(check_seconds or limits.seconds, int(1e9 * check_memory) if check_memory else limits.bytes)
    rewriting = (
        partial(rewrite, proto, (*passes, *after), ops)
        if scheme is None
        else partial(rewrite_quantized, proto, passes, scheme, after, ops)
    )
    result = rewriting(form=form.value, opset=opset, check=check, limits=limits, inputs=arrays, progress=step)
    show_runs(result.log)
    runs = [run for run in result.log if run.name in names]
    if explain or explain_pass:
        show_explanation(runs)
    for sentence in (*result.raised, *result.checks):
        print_line(sentence)
    if result.deviations:
        show_deviations(result.deviations)
    if tolerance is not None:
        hold_to(tolerance, result.deviations)
    with step("write"):
        path, *weights = write_model(result.model, target)
    print_written(path, f"{form} ONNX")
    for path in weights:
        print_written(path, "weights")
    if explained is not None:
        with new_file(explained) as work:
            work.write_text(json.dumps(explanation(runs), indent=1) + "\n", encoding="utf-8")
        print_written(explained.given, "explanation")
