"""Packaging of the UniAD toolkit."""

from pathlib import Path

from setuptools import find_packages, setup

TENSORRT_RTX = [
    f"{package}; sys_platform == 'linux' and platform_machine == 'x86_64'"
    for package in ("onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0", "tensorrt-rtx-cu13-bindings==1.7.1.116")
]
NUSCENES = ["nuscenes-devkit>=1.2", "motmetrics>=1.4", "pandas>=2"]
VIDEO = ["imageio-ffmpeg>=0.5"]
RERUN = ["rerun-sdk>=0.23", "pyarrow>=14.0.2,<23"]
TRAINING = ["lightning-fabric>=2.6.6"]
NVJPEG = ["torchvision>=0.28"]
RAY = ["ray[client]>=2.60"]

setup(
    name="uniad-toolkit",
    version="0.2.0",
    description="Turn a trained UniAD-tiny checkpoint into ONNX and TensorRT, plugin by plugin, and prove it equal",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords="autonomous-driving onnx tensorrt bev uniad deformable-attention",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    project_urls={
        "UniAD": "https://github.com/OpenDriveLab/UniAD",
        "Paper": "https://arxiv.org/abs/2212.10156",
    },
    python_requires=">=3.11",
    packages=find_packages(include=["toolkit*", "plugins*", "custom_ops*", "configs*"]),
    package_data={
        "toolkit": ["py.typed"],
        "plugins": ["py.typed"],
        "custom_ops": ["py.typed", "*/*.cu"],
        "toolkit.data": ["*.json"],
        "toolkit.demo": ["mini/*"],
        "toolkit.engines.gpu": ["*.cu"],
        "toolkit.ops.template": ["*.cu", "*.toml"],
        "toolkit.report": ["templates/*"],
        "configs": ["py.typed", "*.toml"],
    },
    install_requires=[
        "torch>=2.13",
        "numpy>=1.26",
        "scipy>=1.11.1",
        "ml-dtypes>=0.5",
        "msgspec>=0.22",
        "onnx>=1.19,!=1.20.*",  # 1.20 cannot tell which types an operator takes
        "onnx-ir>=0.1.16",
        "onnxscript>=0.7.2",
        "onnx-graphsurgeon>=0.6.1",
        "onnxruntime>=1.28",  # 1.26 takes functions that differ in their overload alone for one
        "safetensors>=0.4.3",
        "pluggy>=1.5",
        "typer>=0.29",
        "rich>=13.8",
        "opencv-python-headless>=4.11",  # before, polygons are filled with other edges
        "matplotlib>=3.8",
        "pillow>=10",
        "jinja2>=3.1",
    ],
    extras_require={
        "cuda": [
            "cupy-cuda13x>=14",
            "cuda-bindings>=13",
            "nvidia-cuda-nvrtc==13.*",
            "nvidia-cuda-runtime==13.*",
            "nvidia-cuda-crt==13.*",
        ],
        "tensorrt": ["tensorrt>=10.12"],
        "tensorrt-rtx": TENSORRT_RTX,
        "nuscenes": NUSCENES,
        "video": VIDEO,
        "rerun": RERUN,
        "nvjpeg": NVJPEG,
        "ray": RAY,
        "training": TRAINING,
        "dev": [
            *TENSORRT_RTX,
            *NUSCENES,
            *VIDEO,
            *RERUN,
            *RAY,
            *TRAINING,
            "transformers>=4.50",
            "tensorrt-cu13-bindings>=11",
            "pytest>=8.2",
            "pytest-xdist>=3.8",
            "filelock>=3.12",
            "hypothesis>=6.100",
            "jsonschema>=4.18",
            "ruff>=0.9",
            "mypy>=2",
            "cuda-bindings>=13",
            "nvidia-cuda-nvrtc==13.0.*",
            "nvidia-cuda-runtime==13.0.*",
            "nvidia-cuda-crt==13.0.*",
        ],
    },
    entry_points={"console_scripts": ["uniad-toolkit=toolkit.cli.main:main"]},
)
