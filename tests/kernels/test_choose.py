"""What a node without CUDA gets, and that it costs nothing to ask."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import argus.kernels
from argus.errors import InternalError
from argus.kernels import choose, reference
from argus.kernels.norm_shape import NormShape
from argus.kernels.samples import NormSample, StepSample

ROOM = Path(argus.kernels.__file__).parent
CPU = torch.device("cpu")


def test_on_cpu_torch_is_taken_and_the_others_say_why_not() -> None:
    step = choose.choose_step(CPU, torch.float32, (8, 8, 8))
    assert step.gather_inputs is reference.gather_inputs
    assert step.update_states is reference.update_states
    norm = choose.choose_norm(CPU, NormShape((1, 8, 4, 4), 2, torch.float32, False))
    assert norm.kernel is reference.group_norm_silu
    for measured, others in ((step.measured, {"triton", "cuda"}), (norm.measured, {"triton"})):
        assert measured.name == "torch"
        assert dict(measured.seconds) == {}
        assert set(measured.left_out) == others
        assert all("needs cuda" in reason for reason in measured.left_out.values())


def test_an_implementation_that_cannot_run_is_left_out_with_its_reason() -> None:
    sample = StepSample.random(CPU, torch.float32, (4, 8, 8), 2, 2)
    names = {"cuda": "argus.kernels.cuda_step", "absent": "argus.kernels.nowhere"}
    found, left_out = choose.working(names, sample)
    assert found == {"torch": reference}
    assert "the CUDA kernels need cuda" in left_out["cuda"]
    assert "argus.kernels.nowhere" in left_out["absent"]


def test_an_implementation_that_computes_something_else_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = (
        "from argus.kernels import reference\n"
        "def gather_inputs(*a): return reference.gather_inputs(*a)\n"
        "def update_states(states, *a): reference.update_states(states, *a); states[0, 0] += 1e-3\n"
        "def group_norm_silu(*a): return reference.group_norm_silu(*a) * float('nan')\n"
    )
    (tmp_path / "wrong_kernels.py").write_text(wrong, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    step = StepSample.random(CPU, torch.float32, (4, 8, 8), 2, 2)
    norm = NormSample.random(CPU, NormShape((1, 8, 4, 4), 2, torch.float32, False))
    for sample, what in ((step, "update"), (norm, "group_norm_silu")):
        found, left_out = choose.working({"wrong": "wrong_kernels"}, sample)
        assert list(found) == ["torch"]
        assert f"{what}: differs from the reference" in left_out["wrong"]


@pytest.mark.parametrize(
    ("seconds", "winner"),
    [([3.0, 2.0, 1.0], "cuda"), ([3.0, 1.0, 2.0], "triton"), ([1.0, 1.0, 1.0], "torch")],
)
def test_the_fastest_wins_and_torch_stays_on_a_tie(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float], winner: str
) -> None:
    # The measurement itself needs a device, see test_on_device.py; here its results are given.
    clock = iter(seconds)
    monkeypatch.setattr(choose, "seconds_per_call", lambda *_: next(clock))
    sample = StepSample.random(CPU, torch.float32, (4, 8, 8), 2, 2)
    found = dict.fromkeys(("torch", "triton", "cuda"), reference)
    measured = choose.fastest(sample, found, {"other": "why"}, CPU, False)
    assert measured == choose.Measured(
        winner, dict(zip(found, seconds, strict=True)), {"other": "why"}
    )


def test_a_samples_check_passes_the_reference_and_keeps_its_states() -> None:
    sample = StepSample.random(CPU, torch.bfloat16, (4, 8, 8), 3, 2, noisy=True)
    before = sample.states.clone()
    sample.check(reference)
    assert torch.equal(sample.states, before)
    with pytest.raises(InternalError, match="differs"):
        NormSample.random(CPU, NormShape((1, 8, 4, 4), 2, torch.float32, False)).check(
            type("Halves", (), {"group_norm_silu": staticmethod(lambda x, *rest: x / 2)})
        )


def test_choosing_on_cpu_imports_no_triton() -> None:
    code = (
        "import sys, torch; from argus.kernels import choose; "
        "choose.choose_step(torch.device('cpu'), torch.float32, (8, 8, 8)); "
        "print('triton' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device to measure")
def test_the_bench_refuses_without_cuda_and_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "argus.kernels.bench"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: no CUDA device here; these kernels run on no other\n"


@pytest.mark.parametrize("path", sorted(ROOM.rglob("*.py")), ids=lambda p: p.name)
def test_the_room_imports_nothing_of_argus_but_errors(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            parts = f"{node.module}".split(".")
            assert parts[0] != "argus" or parts[1] in {"kernels", "errors"}
