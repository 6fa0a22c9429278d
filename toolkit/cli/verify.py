"""`uniad-toolkit verify`: proof that sessions make the same decisions, or where they first do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import console, print_warning, print_written, step
from toolkit.cli.plugin_command import PluginCommand
from toolkit.cli.sessions import PrecisionOption, open_session, require_precision, session_kind, used_precision
from toolkit.data.sources import address_paths
from toolkit.errors import CheckFailed, InputError
from toolkit.hookspecs import hookimpl
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.storage.claims import claim_file, keep_apart


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `verify`."""
    app.command("verify", cls=PluginCommand)(verify_command)


def verify_command(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    frames: Annotated[str | None, typer.Option(help="Frames to run: {addresses}.")] = None,
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
    plugins: PluginManager = context.obj
    target = None
    if output is not None:
        target = claim_file(output, inputs=[bundle, inputs, *address_paths(frames), *plugins.files])
    chosen = session_names(sessions)
    require_precision(precision, chosen, plugins, "--sessions")
    opened = Bundle.read(bundle, print_warning)
    if frames is not None:
        with step("read frames"):
            sequence = frame_sequence(opened, frames, length, plugins.frame_sources(), print_warning)
    elif inputs is not None:
        sequence = official_sequence(opened, inputs, length)
    else:
        sequence = probe_sequence(opened, length)
    if target is not None:
        keep_apart(target, sequence.pictures)
    with step(f"load {' and '.join(chosen)}"):
        reference, *candidates = (
            open_session(opened, name, plugins, precision=own_precision(name, precision, plugins), wires=True)
            for name in chosen
        )
    own, *others = (used_precision(opened, name, own_precision(name, precision, plugins), plugins) for name in chosen)
    policies = [policy_of(other if by_sense(other) else own) for other in others]

    def eager() -> TorchSession:
        return reference if isinstance(reference, TorchSession) else TorchSession.of_bundle(opened, plugins)

    with step(f"run {sequence.length} frames"):
        reports = verify(opened, reference, candidates, sequence.frames, eager, policies=policies, start=sequence.start)
    names = [session_name(name, used) for name, used in zip(chosen, (own, *others), strict=True)]
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


def own_precision(name: str, precision: Precision, plugins: PluginManager) -> Precision:
    """That of a session with a choice is as asked for; others compute in FP32."""
    return precision if precision in session_kind(plugins, name).precisions else Precision.FP32


def session_name(name: str, precision: str) -> str:
    """What a session is called in reports, such as "cuda fp16"."""
    return name if precision == Precision.FP32 else f"{name} {precision}"


def session_names(listed: str) -> list[str]:
    """The sessions of a comma-separated list. Raises InputError for fewer than two."""
    given = [name.strip() for name in listed.split(",")]
    if len(given) < 2:
        raise InputError(f"--sessions {listed} leaves nothing to compare with; give two, such as torch,onnxruntime")
    return given
