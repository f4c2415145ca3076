"""Packaging: one distribution, four packages, and the extras that each machine needs."""

import re
from collections.abc import Iterator
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
HOME = "https://github.com/edgeflow/edgeflow"

ROOTS = {
    "edgeflow": "edgeflow",
    "edgeflow_export": "export/edgeflow_export",
    "edgeflow_runtime": "runtime/edgeflow_runtime",
    "edgeflow_benchmarks": "benchmarks/edgeflow_benchmarks",
}
"""Where each top-level package lies."""


def packages() -> Iterator[str]:
    """Every package below the roots, so that nobody has to keep a list."""
    for name, folder in ROOTS.items():
        yield name
        yield from (f"{name}.{inner}" for inner in find_packages(folder))


def readme() -> str:
    """The README with its links made absolute: on a registry's page there is no repository."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    pictures = re.sub(r"(!\[[^]]*\]\()(?!https?:|#)", rf"\1{HOME}/raw/main/", text)
    return re.sub(r"((?<!!)\[[^]]*\]\()(?!https?:|#)", rf"\1{HOME}/blob/main/", pictures)


EXTRAS = {
    "evaluate": ["scikit-learn>=1.7"],
    "train": ["torch>=2.13", "scikit-learn>=1.7", "filelock>=3.12"],
    "export": [
        "torch>=2.13",
        "onnx>=1.20",
        "onnxscript>=0.7",
        "scikit-learn>=1.7",
        "filelock>=3.12",
    ],
    "plot": ["matplotlib>=3.8"],
}
EXTRAS["workstation"] = sorted({need for needs in EXTRAS.values() for need in needs})

# Lower bounds are the lowest versions that were tried: the base install's on Python 3.10.

setup(
    name="edgeflow",
    version="0.1.0",
    description="Acoustic anomaly monitors for edge boards: train flows, export, score.",
    long_description=readme(),
    long_description_content_type="text/markdown",
    author="The edgeflow authors",
    url=HOME,
    project_urls={
        "Documentation": f"{HOME}/tree/main/docs",
        "Changelog": f"{HOME}/blob/main/CHANGELOG.md",
        "Issues": f"{HOME}/issues",
    },
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=[
        "anomalous sound detection",
        "machine condition monitoring",
        "normalizing flows",
        "edge",
        "jetson",
        "tensorrt",
        "onnx",
    ],
    python_requires=">=3.10",
    package_dir=ROOTS,
    packages=list(packages()),
    package_data={"": ["py.typed", "*.pyi"], "edgeflow_runtime": ["schemas/*.json"]},
    install_requires=[
        "click>=8.1",
        "numpy>=1.26",
        "onnxruntime>=1.18",
        "python_speech_features>=0.6",
        "safetensors>=0.4",
        "scipy>=1.11",
        "soundfile>=0.12",
        "soxr>=0.4",
        "platformdirs>=3.0",
        "tqdm>=4.65",
    ],
    extras_require=EXTRAS
    | {
        "gpu": ["tensorrt>=10.3", "pycuda>=2024.1"],
        "jetson": ["pycuda>=2024.1"],
        "rtx": ["tensorrt-rtx-cu13>=1.7"],
        "bench": ["librosa>=0.10", "threadpoolctl>=3.1"],
        "fuzz": ["atheris>=3.0"],
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
