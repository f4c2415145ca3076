"""Packaging: one distribution, four packages, and the extras that each machine needs."""

from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent

# Lower bounds are the lowest versions that were tried: the base install's on Python 3.10.

setup(
    name="edgeflow",
    version="0.1.0",
    description="Acoustic anomaly monitors for edge boards: train flows, export, score.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    package_dir={
        "edgeflow": "edgeflow",
        "edgeflow_export": "export/edgeflow_export",
        "edgeflow_runtime": "runtime/edgeflow_runtime",
        "edgeflow_benchmarks": "benchmarks/edgeflow_benchmarks",
    },
    packages=[
        "edgeflow",
        "edgeflow.cli",
        "edgeflow.models",
        "edgeflow.synth",
        "edgeflow.training",
        "edgeflow_export",
        "edgeflow_runtime",
        "edgeflow_runtime.board",
        "edgeflow_runtime.cli",
        "edgeflow_runtime.backends.tensorrt",
        "edgeflow_benchmarks",
    ],
    package_data={
        name: ["py.typed"]
        for name in ("edgeflow", "edgeflow_export", "edgeflow_runtime", "edgeflow_benchmarks")
    }
    | {"edgeflow_runtime": ["py.typed", "schemas/*.json"]},
    install_requires=[
        "click>=8.1",
        "numpy>=1.26",
        "onnxruntime>=1.18",
        "python_speech_features>=0.6",
        "safetensors>=0.4",
        "scipy>=1.11",
        "soundfile>=0.12",
        "soxr>=0.4",
        "tqdm>=4.65",
    ],
    extras_require={
        "train": ["torch>=2.13", "scikit-learn>=1.7"],
        "export": ["torch>=2.13", "onnx>=1.20", "onnxscript>=0.7", "scikit-learn>=1.7"],
        "plot": ["matplotlib>=3.8"],
        "gpu": ["tensorrt>=10.3", "pycuda>=2024.1"],
        "jetson": ["pycuda>=2024.1"],
        "rtx": ["tensorrt-rtx-cu13>=1.7"],
        "bench": ["librosa>=0.10", "threadpoolctl>=3.1"],
        "docs": ["latex2mathml>=3.81", "mkdocs-material>=9.7", "mkdocstrings[python]>=1.0"],
        "dev": [
            "hypothesis>=6.100",
            "import-linter>=2.0",
            "jsonschema>=4.18",
            "mypy>=1.10",
            "pytest>=8.0",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
        ],
    },
    entry_points={"console_scripts": ["edgeflow=edgeflow.__main__:main"]},
    classifiers=[
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Sound/Audio :: Analysis",
    ],
)
