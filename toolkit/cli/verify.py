"""`uniad-toolkit verify`: proof that sessions make the same decisions, or where they first do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from toolkit.claims import claim_file
from toolkit.cli.console import console, print_warning, print_written, step
from toolkit.cli.sessions import PrecisionOption, SessionKind, open_session, require_precision, used_precision
from toolkit.data.sources import ADDRESSES, address_paths
from toolkit.engines.gpu.precision import Precision
from toolkit.errors import CheckFailed, InputError
from toolkit.hookspecs import hookimpl


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `verify`."""
    app.command("verify")(verify_command)


def verify_command(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    frames: Annotated[str | None, typer.Option(help=f"Frames to run: {ADDRESSES}.")] = None,
    inputs: Annotated[Path | None, typer.Option(help="npz of official tensors to run, as `replay` takes it.")] = None,
    sessions: Annotated[
        str, typer.Option(help="Sessions to compare, by comma; the first is the reference.")
    ] = "torch,onnxruntime",
    precision: PrecisionOption = Precision.FP32,
    length: Annotated[int | None, typer.Option(min=1, help="Number of frames; all by default, 6 made-up ones.")] = None,
    output: Annotated[Path | None, typer.Option("--json", help="File to write the whole report to.")] = None,
) -> None:
    """Compare sessions over a sequence, each with its own state fed back, and find where a difference comes from.

    Without --frames or --inputs the bundle alone is enough: made-up frames are run. Exit status 1 if a gate fails, or
    an error exceeds its tolerance, or, in reduced precision, a bound of sense; docs/verification.md has them all.

    Example: [bold]uniad-toolkit verify bundle --frames frames --json report.json[/]
    """
    from toolkit.bundle import Bundle
    from toolkit.engines.torch import TorchSession
    from toolkit.verification.policy import by_sense, policy_of
    from toolkit.verification.report_file import write_reports
    from toolkit.verification.sequence import frame_sequence, official_sequence, probe_sequence
    from toolkit.verification.table import print_report
    from toolkit.verification.verify import verify

    if frames is not None and inputs is not None:
        raise InputError("--frames and --inputs are both given; choose one")
    target = None
    if output is not None:
        target = claim_file(output, inputs=[bundle, inputs, *address_paths(frames), *context.obj.files])
    kinds = session_kinds(sessions)
    require_precision(precision, kinds)
    opened = Bundle.read(bundle)
    if frames is not None:
        with step("read frames"):
            sequence = frame_sequence(opened, frames, length, print_warning)
    elif inputs is not None:
        sequence = official_sequence(opened, inputs, length)
    else:
        sequence = probe_sequence(opened, length)
    with step(f"load {' and '.join(kind.value for kind in kinds)}"):
        reference, *candidates = (
            open_session(opened, kind, context.obj, precision=own_precision(kind, precision), wires=True)
            for kind in kinds
        )
    own, *others = (used_precision(opened, kind, own_precision(kind, precision)) for kind in kinds)
    policies = [policy_of(other if by_sense(other) else own) for other in others]

    def eager() -> TorchSession:
        return reference if isinstance(reference, TorchSession) else TorchSession.of_bundle(opened, context.obj)

    with step(f"run {sequence.length} frames"):
        reports = verify(opened, reference, candidates, sequence.frames, eager, policies=policies, start=sequence.start)
    names = [session_name(kind, used) for kind, used in zip(kinds, (own, *others), strict=True)]
    reports = [
        replace(report, reference=names[0], candidate=name) for report, name in zip(reports, names[1:], strict=True)
    ]
    for report in reports:
        console.print()
        print_report(report, console)
    if target is not None:
        write_reports(reports, opened, target)
        print_written(target.given, "report")
    failures = [failure for report in reports if (failure := report.failure())]
    if failures:
        raise CheckFailed("; ".join(failures))
    within = " within the bounds of sense" if any(by_sense(policy.precision) for policy in policies) else ""
    console.print(f"[green]{', '.join(r.candidate for r in reports)} agrees with {names[0]}{within}[/]")


def own_precision(kind: SessionKind, precision: Precision) -> Precision:
    """That of the cuda session is as asked for; others have no choice."""
    return precision if kind is SessionKind.CUDA else Precision.FP32


def session_name(kind: SessionKind, precision: str) -> str:
    """What a session is called in reports, such as "cuda fp16"."""
    return kind.value if precision == Precision.FP32 else f"{kind.value} {precision}"


def session_kinds(names: str) -> list[SessionKind]:
    """The sessions of a comma-separated list. Raises InputError for an unknown name, or fewer than two."""
    known = {kind.value: kind for kind in SessionKind}
    given = [name.strip() for name in names.split(",")]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise InputError(f"--sessions names {unknown[0]!r}; known are {', '.join(known)}")
    if len(given) < 2:
        raise InputError(f"--sessions {names} leaves nothing to compare with; give two, such as torch,onnxruntime")
    return [known[name] for name in given]
