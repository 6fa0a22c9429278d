"""`uniad-toolkit verify`: proof that sessions make the same decisions, or where they first do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.console import console, plain, print_warning, print_written, step
from toolkit.cli.plugin_command import PluginCommand
from toolkit.cli.sessions import PrecisionOption, open_session, require_precision, session_kind, used_precision
from toolkit.data.sources import address_paths
from toolkit.errors import CheckFailed, InputError
from toolkit.hookspecs import hookimpl
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.storage.claims import FileOutput, claim_file, keep_apart

if TYPE_CHECKING:
    from toolkit.bundle import Bundle
    from toolkit.engines.session import Session
    from toolkit.engines.torch import TorchSession
    from toolkit.verification.policy import Policy
    from toolkit.verification.report import Report


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
        str,
        typer.Option("--sessions", "--session", help="Sessions to compare, by comma; the first is the reference."),
    ] = "torch,onnxruntime",
    precision: PrecisionOption = Precision.FP32,
    length: Annotated[int | None, typer.Option(min=1, help="Number of frames; all by default, 6 made-up ones.")] = None,
    output: Annotated[Path | None, typer.Option("--json", help="File to write the whole report to.")] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Dump of the model in its training's environment: the reference in place of a session."),
    ] = None,
) -> None:
    """Compare sessions over a sequence, each with its own state fed back, and find where a difference comes from.

    Without --frames or --inputs the bundle alone is enough: made-up frames are run. Exit status 1 if a gate fails, or
    an error exceeds its tolerance, or, in reduced precision, a bound of sense; docs/verification.md has them all.

    With --against every session is compared with a dump, on the dump's own inputs; --frames or --inputs give the same
    frames once more, to compare how they are prepared: docs/bridge.md.

    Example: [bold]uniad-toolkit verify bundle --frames frames --json report.json[/]
    """
    from toolkit.bundle import Bundle
    from toolkit.quantization.seen import Sight
    from toolkit.verification.report_file import write_reports
    from toolkit.verification.sequence import frame_sequence, official_sequence, probe_sequence
    from toolkit.verification.verify import verify

    if frames is not None and inputs is not None:
        raise InputError("--frames and --inputs are both given; choose one")
    plugins: PluginManager = context.obj
    target = None
    if output is not None:
        target = claim_file(output, inputs=[bundle, inputs, against, *address_paths(frames), *plugins.files])
    chosen = session_names(sessions, least=2 if against is None else 1)
    require_precision(precision, chosen, plugins, "--sessions")
    opened = Bundle.read(bundle, print_warning)
    if against is not None:
        verify_against(opened, against, frames, inputs, chosen, precision, length, target, plugins)
        return
    if frames is not None:
        with step("read frames"):
            sequence = frame_sequence(opened, frames, length, plugins.frame_sources(), print_warning)
    elif inputs is not None:
        sequence = official_sequence(opened, inputs, length)
    else:
        sequence = probe_sequence(opened, length)
    if target is not None:
        keep_apart(target, sequence.pictures)
    ready = open_sessions(opened, chosen, precision, plugins)
    reference, *candidates = ready.sessions
    policies = policies_of(*ready.precisions)
    with step(f"run {sequence.length} frames"):
        reports = verify(
            opened,
            reference,
            candidates,
            sequence.frames,
            ready.eager,
            policies=policies,
            start=sequence.start,
            sight=Sight(opened, plugins.submodules()),
        )
    first, *others = ready.names
    reports = [replace(report, reference=first, candidate=name) for report, name in zip(reports, others, strict=True)]
    print_reports(reports)
    if target is not None:
        write_reports(reports, opened, target)
        print_written(target.given, "report")
    conclude(reports, first)


def verify_against(
    bundle: Bundle,
    path: Path,
    frames: str | None,
    inputs: Path | None,
    chosen: list[str],
    precision: Precision,
    length: int | None,
    target: FileOutput | None,
    plugins: PluginManager,
) -> None:
    """Compare sessions with the dump at `path`: what it holds and settings first; if they differ, nothing is run."""
    from toolkit.reference_interface.dump import read_dump
    from toolkit.verification.dump_findings import DumpFindings
    from toolkit.verification.recording import (
        fitting_inputs,
        recorded_frames,
        recorded_start,
        require_inputs,
        require_outputs,
    )
    from toolkit.verification.report import empty_report
    from toolkit.verification.report_file import write_reports
    from toolkit.verification.sequence import check_length, dumped_sequence, sampled_sequence
    from toolkit.verification.settings import check_settings
    from toolkit.verification.table import input_table
    from toolkit.verification.verify import verify_recording

    dump = read_dump(path)
    count = check_length(path, len(dump.inputs), length)
    first = fitting_inputs(dump, bundle)
    require_outputs(dump, bundle, count)
    settings = check_settings(dump.origin, bundle, first)
    findings = DumpFindings.of_dump(dump, settings)
    reports = [empty_report(path.name, name) for name in chosen]
    if not findings.settings:
        sequence = None
        if frames is not None:
            with step("read frames"):
                sequence = sampled_sequence(
                    bundle, frames, dump.samples[:count], plugins.frame_sources(), print_warning
                )
        elif inputs is not None:
            sequence = dumped_sequence(bundle, inputs, count)
        else:
            require_inputs(dump, bundle, count)
        if target is not None and sequence is not None:
            keep_apart(target, sequence.pictures)
        ready = open_sessions(bundle, chosen, precision, plugins)
        recorded = recorded_frames(dump, bundle, count, None if sequence is None else sequence.frames)
        with step(f"run {count} frames"):
            reports, compared = verify_recording(
                bundle,
                path.name,
                recorded,
                ready.sessions,
                ready.eager,
                policies=policies_of("fp32", *ready.precisions),
                start=recorded_start(dump, bundle) if dump.starts_midway else None,
            )
        reports = [replace(report, candidate=name) for report, name in zip(reports, ready.names, strict=True)]
        findings = replace(findings, inputs=tuple(compared))
        console.print(input_table(findings))
        print_reports(reports)
    if target is not None:
        write_reports(reports, bundle, target, findings)
        print_written(target.given, "report")
    for note in findings.notes:
        print_warning(note)
    if findings.failures():
        others = [failure for report in reports if (failure := report.failure())]
        raise CheckFailed(*findings.failures(), *others)
    conclude(reports, path.name)


@dataclass(frozen=True)
class ReadySessions:
    """Sessions to compare, what they are called, and what each computes in; `eager` opens torch's."""

    sessions: list[Session]
    names: list[str]
    precisions: list[str]
    eager: Callable[[], TorchSession]


def open_sessions(bundle: Bundle, chosen: list[str], precision: Precision, plugins: PluginManager) -> ReadySessions:
    """The chosen sessions, which show all that they can. Raises InputError as `open_session` does."""
    from toolkit.engines.torch import TorchSession

    wanted = [own_precision(name, precision, plugins) for name in chosen]
    with step(f"load {' and '.join(chosen)}"):
        sessions = [
            open_session(bundle, name, plugins, precision=own, wires=True)
            for name, own in zip(chosen, wanted, strict=True)
        ]
    used = [used_precision(bundle, name, own, plugins) for name, own in zip(chosen, wanted, strict=True)]

    def eager() -> TorchSession:
        found = next((session for session in sessions if isinstance(session, TorchSession)), None)
        return found or TorchSession.of_bundle(bundle, plugins)

    return ReadySessions(
        sessions, [session_name(name, own) for name, own in zip(chosen, used, strict=True)], used, eager
    )


def policies_of(own: str, *others: str) -> list[Policy]:
    """How the `others` are judged beside a reference that computes in `own`."""
    from toolkit.verification.policy import by_sense, policy_of

    return [policy_of(other if by_sense(other) else own) for other in others]


def print_reports(reports: Sequence[Report]) -> None:
    """The tables of each."""
    from toolkit.verification.table import print_report

    for report in reports:
        console.print()
        print_report(report, console)


def conclude(reports: Sequence[Report], reference: str) -> None:
    """Say that all agree with the reference. Raises CheckFailed for those that do not."""
    from toolkit.verification.policy import by_sense

    failures = [failure for report in reports if (failure := report.failure())]
    if failures:
        raise CheckFailed("; ".join(failures))
    within = " within the bounds of sense" if any(by_sense(report.precision) for report in reports) else ""
    console.print(f"[green]{', '.join(r.candidate for r in reports)} agrees with {plain(reference)}{within}[/]")


def own_precision(name: str, precision: Precision, plugins: PluginManager) -> Precision:
    """That of a session with a choice is as asked for; others compute in FP32."""
    return precision if precision in session_kind(plugins, name).precisions else Precision.FP32


def session_name(name: str, precision: str) -> str:
    """What a session is called in reports, such as "cuda fp16"."""
    return name if precision == Precision.FP32 else f"{name} {precision}"


def session_names(listed: str, least: int = 2) -> list[str]:
    """The sessions of a comma-separated list. Raises InputError for fewer than `least`."""
    given = [name.strip() for name in listed.split(",")]
    if len(given) < least:
        raise InputError(f"--sessions {listed} leaves nothing to compare with; give two, such as torch,onnxruntime")
    return given
