"""step.cu compiles without a GPU, and its loader says what is wrong when it is not to be had."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from argus.errors import FailedPreconditionError, InternalError, InvalidArgumentError
from argus.kernels import build, cuda_step
from argus.kernels.samples import StepSample

SYMBOLS = {"argus_step_gather", "argus_step_update", "argus_step_error", "argus_step_source"}


def has_compiler() -> bool:
    try:
        build.find_compiler()
    except FailedPreconditionError:
        return False
    return True


needs_nvcc = pytest.mark.skipif(not has_compiler(), reason="no nvcc; `make test-kernels` brings it")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build.build(tmp_path_factory.mktemp("cuda") / "libargus_step.so", ["sm_90"])


@needs_nvcc
def test_the_library_exports_its_c_interface_and_carries_code_for_sm_90(library: Path) -> None:
    listed = subprocess.run(["nm", "-D", library], capture_output=True, text=True, check=True)
    exported = set(re.findall(r" T (\w+)", listed.stdout))
    assert exported >= SYMBOLS
    assert library.read_bytes().count(b"sm_90") > 0


@needs_nvcc
def test_the_library_loads_and_speaks_without_a_gpu(library: Path) -> None:
    loaded = cuda_step.load(library)
    assert loaded.argus_step_source().decode() == build.source_digest()
    # cudaErrorInvalidValue is 1 in every CUDA; its text comes from the runtime linked in.
    assert loaded.argus_step_error(1) == b"invalid argument"


@needs_nvcc
def test_an_unknown_dtype_or_count_of_states_is_refused_by_the_library(library: Path) -> None:
    loaded = cuda_step.load(library)
    for count, dtype in ((cuda_step.MAX_STATES + 1, 0), (2, len(cuda_step.DTYPES))):
        code = loaded.argus_step_gather(None, 0, 4, count, None, None, None, dtype, 1, None)
        assert loaded.argus_step_error(code) == b"invalid argument"


@needs_nvcc
def test_a_library_of_another_source_is_refused(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "libargus_step.so"
    copy.write_bytes(library.read_bytes())
    changed = tmp_path / "step.cu"
    changed.write_bytes(build.SOURCE.read_bytes() + b"// changed\n")
    monkeypatch.setattr(build, "SOURCE", changed)
    with pytest.raises(FailedPreconditionError, match=r"another step\.cu.*argus\.kernels\.build"):
        cuda_step.load(copy)


@needs_nvcc
def test_what_the_compiler_says_reaches_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "step.cu"
    broken.write_text("int main( {", encoding="utf-8")
    monkeypatch.setattr(build, "SOURCE", broken)
    with pytest.raises(InternalError, match=r"step\.cu\(1\): error"):
        build.build(tmp_path / "out.so", ["sm_90"])
    assert list(tmp_path.iterdir()) == [broken]


def test_an_absent_library_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FailedPreconditionError, match=r"not there.*argus\.kernels\.build"):
        cuda_step.load(tmp_path / "none.so")


def test_a_file_that_is_no_library_is_a_clear_error(tmp_path: Path) -> None:
    fake = tmp_path / "libargus_step.so"
    fake.write_text("not a library", encoding="utf-8")
    with pytest.raises(FailedPreconditionError, match="cannot be used"):
        cuda_step.load(fake)


def test_an_absent_compiler_is_said_by_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", NO_COMPILER],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no nvcc" in done.stderr


NO_COMPILER = """
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "nvidia" else found(name, *rest)
from argus.kernels.build import main
raise SystemExit(main())
"""


def test_tensors_on_the_cpu_are_refused() -> None:
    sample = StepSample.random(torch.device("cpu"), torch.float32, (4, 8, 8), 2, 1)
    with pytest.raises(InvalidArgumentError, match="states"):
        sample.gather(cuda_step)
    with pytest.raises(InvalidArgumentError, match="states"):
        sample.update(cuda_step)
