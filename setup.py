"""Metadata of the package; see pyproject.toml for the tools' settings."""

from pathlib import Path

import setuptools

_ROOT = Path(__file__).parent

# The suite runs on the newest of each range; on the oldest of TensorFlow, Keras and
# numpy `make matrix` does a few jobs of each kind. Others were not tried.
BASE = [
    "absl-py>=1.4",
    "ai-edge-litert>=2.3,<3",
    "jinja2>=3.1",
    "litert-quantizer>=0.11,<0.12",
    "ml_collections>=1.1",
    "numpy>=2.0",
    "pillow>=11",
    "pyyaml>=6",
    "rich>=13",
    "scikit-learn>=1.5",
    "scipy>=1.13",
    "threadpoolctl>=3.5",
]
TENSORFLOW = [
    "absl-py>=1.4,<2",  # TF-MOT 0.8.1 refuses 2.
    "importlib_resources",  # tensorflow-datasets imports it and does not declare it.
    "keras>=3.5,<4",
    "tensorboard>=2.18",
    "tensorflow>=2.18,<2.22",
    "tensorflow-datasets>=4.9.9",
    "tensorflow-model-optimization==0.8.1",
    "tf_keras>=2.18,<2.22",
]
# Kinds of files within the package.
DATA = ["json", "html", "css", "js", "md"]
VIDEO = ["opencv-python-headless>=4.10"]
PLOTS = ["matplotlib>=3.9"]
DOCS = ["mkdocs-material>=9.6", "mkdocstrings[python]>=1"]
MLFLOW = ["mlflow-skinny>=2.20"]
SEARCH = ["optuna>=4.0"]
DEV = [
    *PLOTS,
    *SEARCH,
    *VIDEO,
    "codespell>=2.4",
    "hypothesis>=6.100",
    "jsonschema>=4.20",
    "mypy>=2.0",
    "playwright>=1.50",
    "pycocotools>=2.0.8",
    "pytest>=8.3",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "ruff>=0.14",
]

setuptools.setup(
    name="tfslim",
    version="0.1.0",
    description="Keras models to small, fast, verified .tflite files",
    long_description=(_ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    keywords=[
        "edge inference",
        "keras",
        "litert",
        "model compression",
        "pruning",
        "quantization",
        "tensorflow",
        "tflite",
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    # The configs stand beside the package, and inside it once installed.
    packages=[
        *setuptools.find_packages(include=["tfslim", "tfslim.*"]),
        "tfslim.configs",
    ],
    package_dir={"tfslim.configs": "configs"},
    package_data={
        "tfslim": [
            *("py.typed", "*.pyi"),
            *("**/*.json", "**/*.toml", "**/*.html", "**/*.md", "**/*.txt"),
            *("**/*.css", "**/*.js"),
        ]
    },
    entry_points={"console_scripts": ["tfslim = tfslim.commands:main"]},
    install_requires=BASE,
    extras_require={
        "tensorflow": TENSORFLOW,
        "mlflow": MLFLOW,
        "plots": PLOTS,
        "search": SEARCH,
        "video": VIDEO,
        "docs": DOCS,
        "dev": DEV,
    },
)
