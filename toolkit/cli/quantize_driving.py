"""Ground truth as a gate of `quantize`: a bundle before and after, judged by the metrics of `evaluate`."""

from __future__ import annotations

from toolkit.bundle import Bundle
from toolkit.cli.console import print_note, step
from toolkit.cli.evaluate import judged, run_bundle
from toolkit.cli.run_job import RunJob
from toolkit.cli.sessions import DEFAULT_SESSION
from toolkit.data.sources import open_ground_truth
from toolkit.errors import CheckFailed, InputError
from toolkit.evaluation.evaluation_file import SUBMISSION, Evaluation
from toolkit.evaluation.judge import evaluation_of, judge, match, select_metrics
from toolkit.evaluation.results_set import open_results_set
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.quantization.driving import compare_driving
from toolkit.quantization.gates import Finding
from toolkit.storage.claims import FolderOutput
from toolkit.storage.outputs import scratch_folder


class Driving:
    """Judges bundles on the frames at an address. Raises InputError for one without ground truth, and for no metric."""

    def __init__(self, data: str, plugins: PluginManager, target: FolderOutput, threads: int | None) -> None:
        self._data, self._plugins, self._target, self._threads = data, plugins, target, threads
        self._metrics = [(owner, metric) for owner, metric in select_metrics(plugins) if metric.losses]
        if not self._metrics:
            raise InputError("--data is of no use: no metric says how much worse its figures may become; leave it out")
        with step("read ground truth"):
            self._truth = open_ground_truth(data, plugins.frame_sources())

    def compare(self, before: Bundle, after: Bundle) -> tuple[Finding, ...]:
        """What metrics say of both. Raises CheckFailed, which names the figures that became worse than they may."""
        known, given = self._evaluate(before), self._evaluate(after)
        findings = compare_driving(known, given, [metric for _, metric in self._metrics])
        failed = [str(finding) for finding in findings if not finding.holds]
        if failed:
            raise CheckFailed(f"the quantized bundle drives worse than it may: {'; '.join(failed)}; --keep more")
        if not findings:
            print_note(f"{self._data} has nothing to judge by; its metrics are no gates")
        return findings

    def _evaluate(self, bundle: Bundle) -> Evaluation:
        with scratch_folder(self._target.path.with_name(f"{self._target.path.name}.results")) as scratch:
            job = RunJob(
                bundle.path,
                DEFAULT_SESSION,
                Precision.FP32,
                "evaluation",
                pictures=False,
                folder=scratch / "results",
                plugin_files=tuple(self._plugins.files),
                disabled_plugins=self._plugins.disabled,
                threads=self._threads,
            )
            run_bundle(job, self._data, self._plugins, self._target, 1, None)
            found = open_results_set([job.folder])
            matched = match(found, self._truth, self._data)
            judgement = judge(
                judged(found, matched), self._truth, self._metrics, self._plugins, scratch / SUBMISSION, compute=True
            )
            return evaluation_of(found, matched, judgement.findings, self._data)
