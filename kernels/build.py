"""Compiles kernels/cuda/step.cu: `python -m argus.kernels.build [--arch sm_90] [--out FILE]`.

Needs nvcc, from a CUDA toolkit on PATH or from the wheels of the extra `nvcc`; torch is not needed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from argus.errors import ArgusError, FailedPreconditionError, InternalError

SOURCE = Path(__file__).resolve().parent / "cuda" / "step.cu"
LIBRARY = SOURCE.with_name("libargus_step.so")
ARCHITECTURES = ("sm_80", "sm_90")
"""Machine code for these; later devices translate the PTX of the newest one at first use."""


@dataclass(frozen=True, slots=True)
class Compiler:
    """An nvcc and, where its files are spread over wheels, the folders it does not know of."""

    nvcc: Path
    include: tuple[Path, ...] = ()
    lib: tuple[Path, ...] = ()


def source_digest() -> str:
    """Return the digest by which a library and its source are known to belong together."""
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]


def find_compiler() -> Compiler:
    """Return the nvcc on PATH, else the one of the wheels in this environment.

    Raises:
        FailedPreconditionError: there is neither.
    """
    found = shutil.which("nvcc")
    if found:
        return Compiler(Path(found))
    wheels = importlib.util.find_spec("nvidia")
    for root in wheels.submodule_search_locations or () if wheels else ():
        home = Path(root) / "cu13"
        if (home / "bin" / "nvcc").is_file():
            include = (home / "include", home / "include" / "cccl")
            return Compiler(home / "bin" / "nvcc", include, (home / "lib",))
    raise FailedPreconditionError(
        "no nvcc: put a CUDA toolkit's bin on PATH or `pip install argus-serve[nvcc]`"
    )


def command(compiler: Compiler, out: Path, architectures: Sequence[str]) -> list[str]:
    """Return the nvcc command that makes the shared object."""
    targets = [f"-gencode=arch=compute_{a[3:]},code={a}" for a in architectures]
    newest = architectures[-1][3:]
    return [
        str(compiler.nvcc),
        "-shared",
        "-O3",
        "-std=c++17",
        "-Xcompiler=-fPIC,-fvisibility=default",
        # The static runtime: the library loads, and says what is missing, without a CUDA runtime.
        "-cudart=static",
        *targets,
        f"-gencode=arch=compute_{newest},code=compute_{newest}",
        *(f"-I{folder}" for folder in compiler.include),
        *(f"-L{folder}" for folder in compiler.lib),
        f'-DARGUS_STEP_SOURCE="{source_digest()}"',
        f"-o={out}",
        str(SOURCE),
    ]


def build(out: Path = LIBRARY, architectures: Sequence[str] = ARCHITECTURES) -> Path:
    """Compile step.cu into the shared object `out`.

    Raises:
        FailedPreconditionError: no compiler.
        InternalError: the compiler refuses; its own words are in the message.
    """
    compiler = find_compiler()
    out.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed: a process that has the old library mapped keeps it whole.
    fresh = out.with_suffix(".new.so")
    done = subprocess.run(
        command(compiler, fresh, architectures), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise InternalError(f"{compiler.nvcc} failed:\n{done.stdout}{done.stderr}")
    fresh.replace(out)
    return out


def main() -> int:
    """Compile and say where the library lies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=LIBRARY)
    parser.add_argument("--arch", action="append", metavar="sm_NN", help="may be repeated")
    arguments = parser.parse_args()
    try:
        library = build(arguments.out, sorted(arguments.arch or ARCHITECTURES))
    except ArgusError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{library} ({library.stat().st_size // 1024} KiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
