"""What the bridge writes is what `verify --against` reads."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from tests.toolkit.bridge.small_uniad import SmallUniAD, small_batch
from toolkit.config.model import YawConvention
from toolkit.reference_interface.dump import read_dump


def test_a_dump_is_read_as_it_was_written(bridge: ModuleType, tmp_path: Path) -> None:
    """Frames with inputs, outputs and forecasts, the data set's names of them, and what the dump says of itself."""
    model = SmallUniAD()
    bridge.attach(model, str(tmp_path / "dump.npz"), frames=2, yaw_convention="heading")
    for number in range(2):
        model(return_loss=False, rescale=True, **small_batch(number, "one"))
    dump = read_dump(tmp_path / "dump.npz")
    assert (len(dump.inputs), len(dump.outputs), len(dump.samples)) == (2, 2, 2)
    assert {"img", "img_metas_can_bus", "command"} <= dump.inputs.names(0)
    assert {"prev_track_intances0_out", "scores", "outs_planning", "trajectories"} <= dump.outputs.names(1)
    assert all(dump.samples)
    assert dump.origin.yaw_convention is YawConvention.HEADING
    assert dump.origin.score_thresh is not None
    assert "torch" in dump.origin.versions
