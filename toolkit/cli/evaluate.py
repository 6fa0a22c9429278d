"""`uniad-toolkit evaluate`: how well a bundle drives, by every metric."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.console import console, print_duration, print_note, print_warning, print_written, progress, step
from toolkit.cli.refinements import RefinementCommand, asked_refinements
from toolkit.cli.run import ClusterOption, DecoderOption, read_scenes, require_finite_results, run_scenes
from toolkit.cli.sessions import DEFAULT_SESSION, PrecisionOption, SessionOption, require_precision
from toolkit.data.decoder import Decoder
from toolkit.errors import CheckFailed, InputError
from toolkit.hookspecs import hookimpl
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.storage.claims import FolderOutput, claim_folder

if TYPE_CHECKING:
    from toolkit.cli.run_job import RunJob
    from toolkit.data.ground_truth import GroundTruth
    from toolkit.evaluation.comparison import Other
    from toolkit.evaluation.evaluation_file import Evaluation
    from toolkit.evaluation.judge import Judgement, Matched
    from toolkit.evaluation.metric import JudgedFrame, Metric
    from toolkit.evaluation.requirements import Requirement
    from toolkit.evaluation.results_set import ResultsSet
    from toolkit.runtime.run_record import RunRecord

RESULTS = "results"
"""Folder in the output, of a bundle's results."""

FOR_BUNDLES = ("session", "precision", "workers", "threads", "cluster", "decoder")
"""Options that say how a bundle is run."""


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `evaluate`."""
    app.command("evaluate", cls=RefinementCommand)(evaluate_command)


def evaluate_command(
    context: typer.Context,
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS|BUNDLE", help="What `run` wrote, all shards; or a bundle."),
    ],
    data: Annotated[str, typer.Option(help="The frames that were run, with ground truth: nuscenes:… or infos:….")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    metrics: Annotated[str | None, typer.Option(help="Judge by these alone, such as a,b.")] = None,
    require: Annotated[
        list[str] | None, typer.Option(metavar="FIGURE<=NUMBER", help="Fail if that does not hold; repeatable.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Compare with another evaluation, or with published figures (JSON, TOML).")
    ] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Judge although frames lack results.")] = False,
    format_only: Annotated[
        bool, typer.Option("--format-only", help="Write submission files, and judge nothing.")
    ] = False,
    pictures: Annotated[bool, typer.Option(help="Draw plots, and the worst frames.")] = True,
    every: Annotated[bool, typer.Option("--all", help="Print every figure in a line of its own.")] = False,
    session: SessionOption = DEFAULT_SESSION,
    precision: PrecisionOption = Precision.FP32,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Processes that run a scene of a bundle each.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="CPU threads of a session; by default workers share the cores.")
    ] = None,
    cluster: ClusterOption = None,
    decoder: DecoderOption = Decoder.OPENCV,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output folder.")] = False,
) -> None:
    """Judge results by what the data set knows, by every metric: a table, metrics.json, plots and submission files.

    A bundle is run first, into the folder results of the output. What cannot be judged, as a test set, is said.

    Example: [bold]uniad-toolkit evaluate results --data nuscenes:data/nuscenes -o evaluation[/] or
    [bold]uniad-toolkit evaluate bundle --data nuscenes:data/nuscenes -o evaluation --require 'planning/L2@3s<=1.1'[/]
    """
    from toolkit.batch.cluster import require_cluster
    from toolkit.cli.kept_results import results_kept
    from toolkit.cli.run_job import RunJob
    from toolkit.data.sources import address_paths, comma_separated, open_ground_truth
    from toolkit.evaluation.comparison import read_other
    from toolkit.evaluation.evaluation_file import EVALUATION, PLOTS, SUBMISSION, WORST, write_evaluation
    from toolkit.evaluation.judge import evaluation_of, match, require_results, select_metrics
    from toolkit.evaluation.pictures import draw_evaluation
    from toolkit.evaluation.requirements import Requirement, require_metrics
    from toolkit.evaluation.results_set import open_results_set
    from toolkit.specs import refinements_of
    from toolkit.storage.outputs import new_folder

    plugins: PluginManager = context.obj
    inputs = [*results, *address_paths(data), against, *plugins.files]
    target = claim_folder(output, "evaluation", force=force, inputs=inputs)
    if format_only and (require or against is not None):
        raise InputError("--format-only judges nothing; leave it out, or --require and --against")
    requirements = [Requirement.parse(text) for text in require or ()]
    chosen = select_metrics(plugins, comma_separated(metrics), exporting=format_only)
    require_metrics(requirements, [metric.name for _, metric in chosen])
    other = None if against is None else read_other(against)
    bundle = _only_bundle(results)
    if bundle is None:
        _require_unset(context, FOR_BUNDLES)
    else:
        require_precision(precision, (session,), plugins)
        if cluster is not None:
            require_cluster(cluster, workers)
    asked = asked_refinements(context)
    with step("read ground truth"):
        truth = open_ground_truth(data, plugins.frame_sources())
    ran: RunRecord | None = None
    with new_folder(target) as folder:
        if bundle is not None:
            job = RunJob(
                bundle,
                session,
                precision,
                "evaluation",
                pictures=False,
                folder=folder / RESULTS,
                plugin_files=tuple(plugins.files),
                disabled_plugins=plugins.disabled,
                threads=threads,
                refinements=asked,
                decoder=decoder,
            )
            ran = run_bundle(job, data, plugins, target, workers, cluster)
            results, asked = [job.folder], ()
        with nullcontext() if ran is None else results_kept(folder / RESULTS, target):
            offered = refinements_of(plugins.submodules())
            found = open_results_set(results, [offered[option] for option in asked])
            matched = match(found, truth, data)
            if ran is None:
                require_results(matched, allow_missing=allow_missing)
            judgement = _judge(
                judged(found, matched), truth, chosen, plugins, folder / SUBMISSION, compute=not format_only
            )
            evaluation = evaluation_of(found, matched, judgement.findings, data)
            if not format_only:
                write_evaluation(evaluation, folder / EVALUATION)
                if pictures:
                    with step("draw"):
                        draw_evaluation(evaluation, truth, found, plugins.submodules(), folder)
    if not format_only:
        _print_figures(evaluation, every=every)
        print_written(output / EVALUATION, f"{len(evaluation.figures)} figures")
        if pictures:
            print_written(output / PLOTS, "plots")
            print_written(output / WORST, "pictures of the worst frames")
    for path in judgement.exports:
        print_written(output / SUBMISSION / path, "submission")
    if other is not None:
        _print_comparison(evaluation, other, every=every)
    _require(evaluation, requirements)
    if ran is not None:
        require_finite_results(ran)


def _only_bundle(sources: Sequence[Path]) -> Path | None:
    """The bundle that is to be run; None if results were given. Raises InputError for a bundle among others."""
    from toolkit.bundle import MANIFEST

    bundles = [path for path in sources if (path / MANIFEST).is_file()]
    if bundles and len(sources) > 1:
        raise InputError(f"{bundles[0]} is a bundle; evaluate it alone, or give folders of results")
    return bundles[0] if bundles else None


def _require_unset(context: typer.Context, names: Sequence[str]) -> None:
    """Raise InputError for an option among these that the user has given."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InputError(f"--{name} says how a bundle is run, and the results are of a run already; leave it out")


def run_bundle(
    job: RunJob, data: str, plugins: PluginManager, output: FolderOutput, workers: int, cluster: str | None
) -> RunRecord:
    """A bundle's results of all frames at an address, as `run` writes them."""
    from toolkit.bundle import Bundle
    from toolkit.cli.run_job import threads_each

    bundle = Bundle.read(job.bundle, print_warning)
    scenes = read_scenes(bundle, data, plugins, output)
    workers = max(1, min(workers, len(scenes)))
    job.folder.mkdir()
    job = replace(job, threads=job.threads or threads_each(workers))
    return run_scenes(job, bundle, plugins, scenes, output, workers, cluster)


def judged(results: ResultsSet, matched: Matched) -> Iterable[JudgedFrame]:
    """Frames with results; how many are done, and the time left, is shown."""
    from rich.progress import track

    from toolkit.evaluation.judge import judged_frames

    return track(
        judged_frames(results, matched),
        "judge",
        total=len(matched.places),
        console=progress,
        transient=True,
        disable=not progress.is_terminal,
    )


def _judge(
    frames: Iterable[JudgedFrame],
    truth: GroundTruth,
    metrics: Sequence[tuple[str, Metric]],
    plugins: PluginManager,
    exports: Path,
    *,
    compute: bool,
) -> Judgement:
    """What metrics say; how long it took is shown, and what none of them can judge."""
    from toolkit.evaluation.judge import judge

    started = time.perf_counter()
    judgement = judge(frames, truth, metrics, plugins, exports, compute=compute)
    print_duration(time.perf_counter() - started, "judge")
    if judgement.further:
        print_note(f"results that no submodule interprets, and no metric judges: {', '.join(judgement.further)}")
    return judgement


def _print_figures(evaluation: Evaluation, *, every: bool) -> None:
    """The table, and what could not be judged."""
    from toolkit.cli.evaluation_tables import figure_table

    console.print(figure_table(evaluation, every=every))
    for gap in evaluation.missing:
        print_note(str(gap))
    for metric in evaluation.metrics:
        for text in (*metric.notes, *map(str, metric.gaps)):
            print_note(f"{metric.name}: {text}")


def _print_comparison(evaluation: Evaluation, other: Other, *, every: bool) -> None:
    from toolkit.cli.evaluation_tables import comparison_table
    from toolkit.evaluation.comparison import compare, unlike

    compared = compare(evaluation, other)
    if not compared:
        print_note(f"{other.path} has no figure of this evaluation: there is nothing to compare")
        return
    console.print(comparison_table(compared, other, every=every))
    if other.evaluation is not None:
        for difference in unlike(evaluation, other.evaluation):
            print_note(f"{other.path} is not of the same: {difference}")


def _require(evaluation: Evaluation, requirements: Sequence[Requirement]) -> None:
    """Raise CheckFailed for what does not hold, and InputError for what is no figure of the evaluation."""
    from toolkit.evaluation.requirements import failures

    failed = failures(evaluation, requirements)
    if failed:
        raise CheckFailed(f"{len(failed)} of {len(requirements)} requirements do not hold: {'; '.join(failed)}")
