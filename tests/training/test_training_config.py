"""What config files say of a training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.toolkit.config.official_style import STAGE1, STAGE2
from toolkit.config.file import load_config
from toolkit.errors import InputError
from toolkit.training.config import TrainingConfig, load_training_config

CONFIGS = Path(__file__).parents[2] / "configs"
OFFICIAL = """
queue_length = 5
total_epochs = 6
optimizer = dict(type="AdamW", lr=2e-4, paramwise_cfg=dict(custom_keys={"img_backbone": dict(lr_mult=0.1)}),
                 weight_decay=0.01)
optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(policy="CosineAnnealing", warmup="linear", warmup_iters=500, warmup_ratio=1.0 / 3, min_lr_ratio=1e-3)
runner = dict(type="EpochBasedRunner", max_epochs=total_epochs)
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_stage_1_of_the_reference(tmp_path: Path) -> None:
    """The official config and the toolkit's own say the same."""
    official = load_training_config(write(tmp_path / "official.py", STAGE1 + OFFICIAL))
    assert official == load_training_config(CONFIGS / "uniad_tiny_stage1.toml") == TrainingConfig()


def test_stage_2_of_the_reference(tmp_path: Path) -> None:
    text = STAGE2 + OFFICIAL.replace("total_epochs = 6", "total_epochs = 20").replace("queue_length = 5", "")
    official = load_training_config(write(tmp_path / "official.py", text))
    assert official == load_training_config(CONFIGS / "uniad_tiny_stage2.toml")
    assert (official.stage, official.queue_length, official.epochs) == (2, 3, 20)


def test_what_is_stated_counts(tmp_path: Path) -> None:
    text = STAGE1 + OFFICIAL.replace("2e-4", "1e-4").replace("max_norm=35", "max_norm=10")
    text += "data = dict(samples_per_gpu=2, **data)"
    config = load_training_config(write(tmp_path / "official.py", text))
    assert (config.learning_rate, config.gradient_norm, config.accumulate) == (1e-4, 10, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("AdamW", "SGD"), "optimizer.type is 'SGD'; training supports 'AdamW'"),
        (("CosineAnnealing", "step"), "lr_config.policy is 'step'"),
        (("max_epochs=total_epochs", "max_epochs=0"), "epochs"),
        (('"ClipMatcher"', '"ClipMatcher", loss_past_traj_weight=1.0'), "training of stage 1 supports 0.0"),
        (("loss_weight=2.0", "loss_weight=3.0"), "model.seg_head.loss_mask.loss_weight is 3.0; training supports 2.0"),
    ],
)
def test_what_is_not_trained_so(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    text = STAGE1 + OFFICIAL
    assert change[0] in text
    with pytest.raises(InputError) as refusal:
        load_training_config(write(tmp_path / "official.py", text.replace(*change)))
    assert message in str(refusal.value)


def test_a_table_beside_those_of_the_model(tmp_path: Path) -> None:
    """The model's configuration does not mind it; what it lacks has its default."""
    path = write(tmp_path / "mini.toml", "embed = 128\n[training]\nstage = 2\nepochs = 3\n")
    assert load_config(path).embed == 128
    assert load_training_config(path) == TrainingConfig(stage=2, epochs=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("embed = 128", r"has no stage in a table \[training\]; add it, or give --stage 1 or --stage 2"),
        ("training = 3", "'training' is no table"),
        ("[training]\nstage = 1\nepoch = 3", "epoch"),
        ("[training]\nstage = 3", "stage"),
        ("[training]\nstage = 1\nlearning_rate = 'high'", "learning_rate"),
        ("[training]\nstage = 1\nlearning_rate = -1.0", "learning_rate"),
    ],
)
def test_tables_that_cannot_be(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "mini.toml", text)
    with pytest.raises(InputError, match=message):
        load_training_config(path)


def test_the_stage_of_a_table_may_be_given(tmp_path: Path) -> None:
    assert load_training_config(write(tmp_path / "mini.toml", "embed = 128"), stage=2).stage == 2
