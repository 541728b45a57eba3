"""Every Triton kernel compiles to machine code for an H100 (sm_90) on a machine without one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

triton = pytest.importorskip("triton")
from argus.kernels import triton_norm, triton_step  # noqa: E402

GATHER = {
    "states": "*fp32",
    "lane_slots": "*i64",
    "weights": "*fp32",
    "inputs": "*{dtype}",
    "size": "i32",
    "pitch": "i32",
}
UPDATE = {
    "states": "*fp32",
    "slots": "*i64",
    "output": "*{dtype}",
    "negative": "*i64",
    "positive": "*i64",
    "guidance": "*fp32",
    "coefficients": "*fp32",
    "noise": "*fp32",
    "size": "i32",
    "pitch": "i32",
    "padding": "i32",
    "channels": "i32",
}
NORM_TILE = {"tile_pixels": triton_norm.PIXELS, "tile_channels": triton_norm.CHANNELS}
PIXELS = {"pixels": "i32", "channels": "i32", "width": "i32"}
AFFINE = {
    "x": "*{dtype}",
    "moments": "*fp32",
    "weight": "*{dtype}",
    "bias": "*{dtype}",
    "y": "*{dtype}",
}
NORMS: dict[str, tuple[dict[str, str], dict[str, int]]] = {
    "parts_kernel": (
        {"x": "*{dtype}", "parts": "*fp32", "total": "i32"},
        {"block": triton_norm.BLOCK},
    ),
    "parts_kernel_channels_last": ({"x": "*{dtype}", "parts": "*fp32", **PIXELS}, NORM_TILE),
    "combine_kernel": (
        {"parts": "*fp32", "moments": "*fp32", "length": "i32", "eps": "fp32"},
        {"merged": triton_norm.MERGED},
    ),
    "apply_kernel": (
        {**AFFINE, **PIXELS},
        {"block": triton_norm.BLOCK},
    ),
    "apply_kernel_channels_last": ({**AFFINE, **PIXELS}, NORM_TILE),
}
DTYPES = ["fp16", "bf16", "fp32"]


@pytest.fixture(autouse=True)
def _no_cached_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def compiled(
    kernel: Any,
    signature: dict[str, str],
    constants: dict[str, Any],
    dtype: str,
    fusion: bool,
    warps: int,
) -> dict[str, Any]:
    """Return what Triton made for sm_90, by kind: ptx, cubin and so on."""
    types = {name: kind.format(dtype=dtype) for name, kind in signature.items()}
    types |= dict.fromkeys(constants, "constexpr")
    source = triton.compiler.ASTSource(fn=kernel, signature=types, constexprs=constants)
    target = triton.backends.compiler.GPUTarget("cuda", 90, 32)
    options = {"num_warps": warps, "enable_fp_fusion": fusion}
    code: dict[str, Any] = triton.compile(source, target=target, options=options).asm
    assert re.search(r"\.target sm_90", code["ptx"])
    assert code["cubin"][:4] == b"\x7fELF"
    return code


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_compiles_and_rounds_products_and_sums_one_by_one(dtype: str) -> None:
    constants = {"count": 3, "block": triton_step.BLOCK}
    code = compiled(
        triton_step.gather_kernel, GATHER, constants, dtype, fusion=False, warps=triton_step.WARPS
    )
    assert "mul.rn.f32" in code["ptx"] or "mul.f32" in code["ptx"]
    assert "fma" not in code["ptx"]


@pytest.mark.parametrize(
    ("dtype", "count", "channels_last"),
    [("fp16", 2, False), ("fp16", 3, True), ("bf16", 3, False), ("fp32", 5, True)],
)
def test_update_compiles_and_rounds_products_and_sums_one_by_one(
    dtype: str, count: int, channels_last: bool
) -> None:
    constants = {
        "count": count,
        "noisy": True,
        "channels_last": channels_last,
        "block": triton_step.BLOCK,
    }
    code = compiled(
        triton_step.update_kernel, UPDATE, constants, dtype, fusion=False, warps=triton_step.WARPS
    )
    assert "mul.rn.f32" in code["ptx"] or "mul.f32" in code["ptx"]
    assert "fma" not in code["ptx"]


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("name", NORMS)
def test_norm_kernels_compile(name: str, dtype: str) -> None:
    signature, constants = NORMS[name]
    kernel = getattr(triton_norm, name)
    compiled(kernel, signature, constants, dtype, fusion=True, warps=triton_norm.WARPS)


def test_every_kernel_of_the_norm_is_in_the_list_above() -> None:
    jitted = triton.runtime.jit.JITFunction
    found = {name for name, value in vars(triton_norm).items() if isinstance(value, jitted)}
    assert found == set(NORMS)
