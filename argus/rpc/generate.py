"""Generate the stubs in argus/v1 from proto/; `make proto` runs this in a checkout."""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def generate(out: Path) -> None:
    """Write the stubs of every proto below `out`, in the folder argus/v1.

    Raises:
        RuntimeError: protoc found a fault, which it has printed.
    """
    # grpcio-tools is needed by developers only.
    from grpc_tools import protoc

    plugin = Path(sys.executable).with_name("protoc-gen-mypy")
    protos = sorted(str(path) for path in (CHECKOUT / "proto").rglob("*.proto"))
    arguments = [
        "protoc",
        f"--proto_path={CHECKOUT / 'proto'}",
        f"--plugin=protoc-gen-mypy={plugin}",
        f"--python_out={out}",
        f"--mypy_out=readable_stubs,quiet:{out}",
        f"--grpc_python_out={out}",
        *protos,
    ]
    if protoc.main(arguments):
        raise RuntimeError("protoc failed")
    (out / "argus" / "v1" / "__init__.py").touch()


if __name__ == "__main__":
    generate(CHECKOUT)
