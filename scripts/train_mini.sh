#!/usr/bin/env bash
# Trains the small network (configs/uniad_mini.toml) from scratch on synthetic drives, both stages, makes a bundle of it,
# and judges that on the drives it learnt from and on drives it never saw.
#
#     [PROCESSES=4] [SCENES=4] [KEYFRAMES=40] [EPOCHS1=60] [EPOCHS2=30] [STAGE1=CHECKPOINT] scripts/train_mini.sh FOLDER
#
# Wants uniad-toolkit with the extras training and nuscenes on the PATH, and a GPU: on a CPU a step takes seconds. The
# pictures are rendered at a quarter of nuScenes' size, to which the network would reduce them anyway. With STAGE1 the
# first stage is not trained; it takes weights of an earlier run. All processes share the GPU.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
folder=$1
processes=${PROCESSES:-4}
drive=(--keyframes "${KEYFRAMES:-40}" --image-scale 0.25)
mkdir -p "$folder"
cd "$folder"

sed 's/^source_width = .*/source_width = 400/; s/^source_height = .*/source_height = 225/; s/^scale = .*/scale = 1.0/' \
    "$root/configs/uniad_mini.toml" > mini.toml
uniad-toolkit synthesize -o seen --scenes "${SCENES:-4}" "${drive[@]}"
uniad-toolkit synthesize -o unseen --scenes 2 --seed 1 "${drive[@]}"
python3 - <<'PYTHON'
from pathlib import Path
import numpy as np
from toolkit.config.file import load_config
from toolkit.demo.pseudo_weights import pseudo_motion_anchors

np.save("anchors.npy", pseudo_motion_anchors(load_config(Path("mini.toml"))))
PYTHON

train() { # STAGE EPOCHS [OPTION …]
    local stage=$1 epochs=$2
    shift 2
    torchrun --standalone --nproc-per-node "$processes" --no-python uniad-toolkit train mini.toml --stage "$stage" \
        --data nuscenes:seen -o "stage$stage" --set "epochs=$epochs" --set warmup_steps=50 "$@"
}

if [ -z "${STAGE1:-}" ]; then
    train 1 "${EPOCHS1:-60}" --set freeze_img_backbone=False --set grid_mask_probability=0
    STAGE1=stage1/epoch_${EPOCHS1:-60}.pth
fi
train 2 "${EPOCHS2:-30}" --init "$STAGE1" --motion-anchors anchors.npy

uniad-toolkit convert "stage2/epoch_${EPOCHS2:-30}.pth" --config mini.toml --motion-anchors anchors.npy -o bundle
for data in seen unseen; do
    uniad-toolkit evaluate bundle --data "nuscenes:$data" -o "judged-$data" --session onnxruntime
done
