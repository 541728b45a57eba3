"""Attention back ends: what can run here, and how the fastest right one is found."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny_models import TINY

from argus.diffusion import attention
from argus.diffusion.adapter import load_variant
from argus.diffusion.attention import KERNELS, MATH, SDPA, Measured, measure, use
from argus.errors import InvalidArgumentError

CPU = torch.device("cpu")


def test_the_cpu_has_one_back_end_and_it_is_measured(tiny_folders: dict[str, Path]) -> None:
    adapter = load_variant(tiny_folders["tiny-eps"], CPU, torch.float32)
    assert attention.back_ends(CPU) == (SDPA,)
    found = measure(adapter, 2, (4, 8, 8))
    assert (found.best, set(found.seconds), dict(found.failed)) == (SDPA, {SDPA}, {})
    assert found.seconds[SDPA] > 0
    with (
        pytest.raises(InvalidArgumentError, match="attention: must be one of sdpa, not 'flash'"),
        use(adapter, "flash"),
    ):
        pass


def test_the_fastest_that_agrees_with_plain_products_is_best() -> None:
    seconds = {SDPA: 3.0, "flash": 1.0, "cudnn": 0.5, "efficient": 0.4, MATH: 4.0}
    apart = {SDPA: 1e-3, "flash": 9e-3, "cudnn": 2e-2, "efficient": math.nan, MATH: 0.0}
    assert Measured(seconds, apart, {}, tolerance=1e-2).best == "flash"
    assert Measured(seconds, apart, {}, tolerance=1e-3).best == SDPA
    assert Measured(seconds, apart, {}, tolerance=1e-1).best == "cudnn"


def test_every_kernel_falls_back_to_one_that_takes_any_shape() -> None:
    q = torch.randn(1, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    plain = torch.softmax(q @ q.transpose(-1, -2) / math.sqrt(7), dim=-1) @ q
    for kernels in KERNELS.values():
        with attention.sdpa_kernel(list(kernels), set_priority=True):
            out = torch.nn.functional.scaled_dot_product_attention(q, q, q)
        torch.testing.assert_close(out, plain)


def test_xformers_that_does_not_work_is_reported_not_raised() -> None:
    # The CPU has no xFormers operator, whether the package is there or not.
    fault = attention.xformers_fault(CPU)
    assert fault
    assert "\n" not in fault


@pytest.mark.parametrize(
    ("name", "wanted"), [("tiny-eps", False), ("tiny-sd3", False), ("tiny-flux", True)]
)
def test_which_models_go_through_the_dispatch_of_diffusers(
    tmp_path: Path, name: str, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers.models import attention_dispatch
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    adapter = load_variant(TINY[name](tmp_path / name), CPU, torch.float32)
    (module,) = adapter.forward_modules().values()
    assert attention.dispatches(module) == wanted
    # Independently: count the calls that reach the dispatched native back end.
    calls: list[int] = []
    native = attention_dispatch.AttentionBackendName.NATIVE
    real = _AttentionBackendRegistry._backends[native]

    def count(*args: object, **options: object) -> object:
        calls.append(1)
        return real(*args, **options)

    monkeypatch.setitem(_AttentionBackendRegistry._backends, native, count)
    measure(adapter, 1, adapter.latent_shape(32, 32))
    assert bool(calls) == wanted


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["tiny-eps", "tiny-sd3", "tiny-flux"])
def test_every_back_end_of_a_gpu_agrees_with_plain_products(tmp_path: Path, name: str) -> None:
    adapter = load_variant(TINY[name](tmp_path / name), torch.device("cuda", 0), torch.float16)
    found = measure(adapter, 2, adapter.latent_shape(32, 32))
    assert MATH in found.seconds
    assert {n for n, d in found.differences.items() if d > found.tolerance} == set()
    (module,) = adapter.forward_modules().values()
    processors = dict(module.attn_processors)
    measure(adapter, 1, adapter.latent_shape(32, 32))
    assert dict(module.attn_processors) == processors
