#!/usr/bin/env bash
# Trains the small network (configs/uniad_mini.toml) from scratch on synthetic drives, both stages, makes a bundle of
# it, and judges that on the drives it learnt from and on drives it never saw.
#
#     [PROCESSES=1] [SCENES=2] [KEYFRAMES=40] [EPOCHS0=40] [EPOCHS1=45] [EPOCHS2=10] [EPOCHS3=25] [STAGE1=CHECKPOINT] \
#         scripts/train_mini.sh FOLDER [OPTION …]
#
# Options are those of `train`, such as --graphs, with which a step takes a third of the time.
# Wants uniad-toolkit with the extras training and nuscenes on the PATH, and a GPU: on a CPU a step takes seconds. The
# pictures are rendered at a quarter of nuScenes' size, to which the network would reduce them anyway. The first stage
# begins with EPOCHS0 of single frames, which take a third of the time and teach all but motion; EPOCHS1 are of 3
# frames, and EPOCHS2 of 5, whose tracks are carried on whatever their overlap with the object. With STAGE1 none of it
# is trained; it takes weights of an earlier run. Stage 2 trains its own heads, and hardly changes what the first stage
# has learnt. Processes that are more than the GPUs share these.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
folder=$1
options=("${@:2}")
processes=${PROCESSES:-1}
drive=(--keyframes "${KEYFRAMES:-40}" --image-scale 0.25)
[ -z "${STAGE1:-}" ] || STAGE1=$(realpath -e "$STAGE1")
mkdir -p "$folder"
cd "$folder"

sed 's/^source_width = .*/source_width = 400/; s/^source_height = .*/source_height = 225/; s/^scale = .*/scale = 1.0/' \
    "$root/configs/uniad_mini.toml" > mini.toml
uniad-toolkit synthesize -o seen --scenes "${SCENES:-2}" "${drive[@]}"
uniad-toolkit synthesize -o unseen --scenes 2 --seed 1 "${drive[@]}"
python3 - <<'PYTHON'
from pathlib import Path
import numpy as np
from toolkit.config.file import load_config
from toolkit.demo.pseudo_weights import pseudo_motion_anchors

np.save("anchors.npy", pseudo_motion_anchors(load_config(Path("mini.toml"))))
PYTHON

train() { # RUN STAGE EPOCHS [OPTION …]
    local run=$1 stage=$2 epochs=$3
    shift 3
    torchrun --standalone --nproc-per-node "$processes" --no-python uniad-toolkit train mini.toml --stage "$stage" \
        --data nuscenes:seen -o "$run" --set "epochs=$epochs" --set warmup_steps=50 --set distort_pictures=False \
        "${options[@]}" "$@"
}

if [ -z "${STAGE1:-}" ]; then
    from_scratch=(--set freeze_img_backbone=False --set grid_mask_probability=0)
    train frames 1 "${EPOCHS0:-40}" "${from_scratch[@]}" --set queue_length=1 --set learning_rate=6e-4
    train clips 1 "${EPOCHS1:-45}" "${from_scratch[@]}" --init "frames/epoch_${EPOCHS0:-40}.pth" \
        --set learning_rate=8e-4
    train tracks 1 "${EPOCHS2:-10}" "${from_scratch[@]}" --init "clips/epoch_${EPOCHS1:-45}.pth" \
        --set queue_length=5 --set carry_imprecise=True
    STAGE1=tracks/epoch_${EPOCHS2:-10}.pth
fi
train stage2 2 "${EPOCHS3:-25}" --init "$STAGE1" --motion-anchors anchors.npy --set learning_rate=8e-4 \
    --set carry_imprecise=True \
    --set "learning_rate_factors={'': 0.01, 'motion_head': 1, 'occ_head': 1, 'planning_head': 1, 'past_traj': 1}"

uniad-toolkit convert "stage2/epoch_${EPOCHS3:-25}.pth" --config mini.toml --motion-anchors anchors.npy -o bundle
for data in seen unseen; do
    uniad-toolkit evaluate bundle --data "nuscenes:$data" -o "judged-$data" --session onnxruntime
done
