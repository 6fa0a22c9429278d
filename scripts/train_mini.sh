#!/usr/bin/env bash
# Trains the small network (configs/uniad_mini.toml) from scratch on synthetic drives, both stages, makes a bundle of it,
# and judges that on the drives it learnt from and on drives it never saw.
#
#     [PROCESSES=1] [SCENES=2] [KEYFRAMES=40] [EPOCHS0=40] [EPOCHS1=20] [EPOCHS2=25] [STAGE1=CHECKPOINT] \
#         scripts/train_mini.sh FOLDER
#
# Wants uniad-toolkit with the extras training and nuscenes on the PATH, and a GPU: on a CPU a step takes seconds. The
# pictures are rendered at a quarter of nuScenes' size, to which the network would reduce them anyway. The first stage
# begins with EPOCHS0 of single frames, which take a third of the time and teach all but motion. With STAGE1 it is not
# trained; it takes weights of an earlier run. Processes that are more than the GPUs share these.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
folder=$1
processes=${PROCESSES:-1}
drive=(--keyframes "${KEYFRAMES:-40}" --image-scale 0.25)
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
        --data nuscenes:seen -o "$run" --set "epochs=$epochs" --set warmup_steps=50 "$@"
}

if [ -z "${STAGE1:-}" ]; then
    backbone=(--set freeze_img_backbone=False --set grid_mask_probability=0)
    train frames 1 "${EPOCHS0:-40}" --set queue_length=1 "${backbone[@]}"
    train stage1 1 "${EPOCHS1:-20}" --init "frames/epoch_${EPOCHS0:-40}.pth" "${backbone[@]}"
    STAGE1=stage1/epoch_${EPOCHS1:-20}.pth
fi
train stage2 2 "${EPOCHS2:-25}" --init "$STAGE1" --motion-anchors anchors.npy

uniad-toolkit convert "stage2/epoch_${EPOCHS2:-25}.pth" --config mini.toml --motion-anchors anchors.npy -o bundle
for data in seen unseen; do
    uniad-toolkit evaluate bundle --data "nuscenes:$data" -o "judged-$data" --session onnxruntime
done
