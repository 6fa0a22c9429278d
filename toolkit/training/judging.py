"""How well a network drives while it is trained: its results on frames that are kept for that, by every metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.batch.scenes import split_scenes
from toolkit.batch.writer import SceneWriter
from toolkit.bundle import Bundle, SubmoduleRecord
from toolkit.data.frames import Frame
from toolkit.data.ground_truth import GroundTruth
from toolkit.data.sources import open_frames, open_ground_truth
from toolkit.engines.torch import TorchSession
from toolkit.evaluation.evaluation_file import EVALUATION, SUBMISSION, Evaluation, write_evaluation
from toolkit.evaluation.judge import evaluation_of, judge, judged_frames, match, select_metrics
from toolkit.evaluation.metric import Metric
from toolkit.evaluation.results_set import open_results_set
from toolkit.precision import Precision
from toolkit.runtime.run_record import RunRecord
from toolkit.storage.claims import claim_folder
from toolkit.storage.outputs import new_folder

if TYPE_CHECKING:
    from toolkit.config.model import ModelConfig
    from toolkit.network import Network
    from toolkit.plugin.manager import PluginManager

FOLDER = "evaluation_{}"
"""In the folder of a run, by the name of the checkpoint."""
RESULTS = "results"


@dataclass(frozen=True, eq=False)
class Examination:
    """Frames with ground truth that a network is judged on."""

    address: str
    frames: Sequence[Frame]
    truth: GroundTruth
    metrics: Sequence[tuple[str, Metric]]
    plugins: PluginManager

    @classmethod
    def open(cls, address: str, config: ModelConfig, plugins: PluginManager) -> Examination:
        """Raises InputError for an address without frames or ground truth, and without any metric."""
        kinds = plugins.frame_sources()
        frames = list(open_frames(address, config.image, kinds))
        return cls(address, frames, open_ground_truth(address, kinds), select_metrics(plugins), plugins)

    def judge(self, network: Network, device: str, output: Path) -> tuple[Path, Evaluation]:
        """Run the network in evaluation mode, and write results and figures into a folder, which is replaced.

        The network is left in evaluation mode. Returns the file of the figures, and them.
        """
        graph = network.eval().graph
        records = tuple(
            SubmoduleRecord(each.name, "training", None, tuple(spec.name for spec in each.outputs))
            for each in graph.submodules
        )
        bundle = Bundle.of_graph(
            output, graph, submodules=records, custom_ops=(), files={}, sha256={}, provenance={}, parity={}
        )
        session = TorchSession(network, device)
        with new_folder(claim_folder(output, "evaluation", force=True)) as folder:
            (folder / RESULTS).mkdir()
            writer = SceneWriter(bundle, session, graph.submodules, "evaluation", False, folder / RESULTS)
            frames = tuple(writer.run(split_scenes(self.frames)))
            RunRecord(bundle.identity, session.name, frames, Precision.FP32, ()).write(folder / RESULTS)
            found = open_results_set([folder / RESULTS])
            matched = match(found, self.truth, self.address)
            judgement = judge(
                judged_frames(found, matched), self.truth, self.metrics, self.plugins, folder / SUBMISSION
            )
            evaluation = evaluation_of(found, matched, judgement.findings, self.address)
            write_evaluation(evaluation, folder / EVALUATION)
        return output / EVALUATION, evaluation
