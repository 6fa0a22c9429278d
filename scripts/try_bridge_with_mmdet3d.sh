#!/usr/bin/env bash
# Tries the file of `uniad-toolkit bridge` with the real mmcv and mmdet3d, on a small detector of our own.
#
#     scripts/try_bridge_with_mmdet3d.sh [FOLDER]
#
# By hand, when toolkit/bridge changes: it installs an environment of some 2 GB in FOLDER (out/bridge-with-mmdet3d), once
# made it is used again. About five minutes, without a GPU. PYTHON is a Python 3.11 (python3.11), TORCH what pip installs
# as torch (torch==2.13.0); UniAD itself is not needed, and no compiled operator of mmcv is called.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$root/out/bridge-with-mmdet3d}
venv=$folder/venv
mkdir -p "$folder"

if [ ! -f "$venv/.installed" ]; then
    "${PYTHON:-python3.11}" -m venv --clear "$venv"
    pip() { "$venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
    # mmcv's and trimesh's code wants pkg_resources, which younger setuptools lack; mmdet3d's setup.py wants torch.
    pip "${TORCH:-torch==2.13.0}" 'networkx==2.8.8' 'setuptools<81' wheel
    pip 'setuptools<81' addict 'yapf==0.32.0' terminaltables prettytable pycocotools plyfile 'trimesh==2.35.39' \
        numba scikit-image six opencv-python-headless matplotlib scipy pillow pyyaml pyquaternion shapely cachetools \
        descartes pandas tqdm scikit-learn fire jsonschema
    # These two ask for packages too old for this Python.
    pip --no-deps nuscenes-devkit lyft_dataset_sdk
    # By its name mmcv-full comes with operators only; mmcv without them is the same Python code.
    MMCV_WITH_OPS=0 pip --no-deps --no-build-isolation 'mmcv==1.6.0'
    pip --no-deps 'mmdet==2.28.2' 'mmsegmentation==0.30.0'
    pip --no-deps --no-build-isolation 'mmdet3d==1.0.0rc6'
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    # Imported, but not called: mmcv's compiled operators, and torchvision.
    cat > "$site/mmcv/_ext.py" <<'PYTHON'
def __getattr__(name):
    def missing(*args, **kwargs):
        raise RuntimeError(f"mmcv is installed without its compiled operators: {name}")

    return missing
PYTHON
    mkdir -p "$site/torchvision"
    echo '__version__ = "0.0"' > "$site/torchvision/__init__.py"
    touch "$venv/.installed"
fi

tree=$folder/tree
rm -rf "$tree"
cp -r "$root/scripts/bridge_tree" "$tree"
cp "$root/tests/toolkit/bridge/small_uniad.py" "$tree"
(cd "$root" && "${UNIAD_TOOLKIT:-$root/.venv/bin/uniad-toolkit}" bridge -o "$tree/uniad_bridge.py")
cd "$tree"
"$venv/bin/python" -W ignore try_bridge.py
