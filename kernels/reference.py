"""What every kernel computes, in plain torch: the truth in tests and the path taken on CPU.

Products and sums are rounded one by one and in a fixed order. So a row's bits depend neither on
the rows beside it nor on the vector width that torch picks for a shape. The Triton and CUDA
versions keep that order and do without fused multiply-add, which costs nothing where memory is the
limit.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional

from argus.kernels.checks import check_gather, check_update


def gather_inputs(
    states: torch.Tensor, lane_slots: torch.Tensor, weights: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """Return the model's input: for lane l, the sum over j of weights[l, j] · states[j, slot of l].

    Args:
        states: (S, slots + 1, C, H, W) float32; the last slot is padding.
        lane_slots: (L,) int64, the slot each lane reads.
        weights: (L, S) float32.
        dtype: of the model: float16, bfloat16 or float32.

    Returns:
        (L, C, H, W) of `dtype`, contiguous.

    Raises:
        InvalidArgumentError: a shape, dtype or device does not fit.
    """
    check_gather(states, lane_slots, weights, dtype)
    factors = weights.t()[:, :, None, None, None]
    total = states[0].index_select(0, lane_slots).mul_(factors[0])
    for state, factor in zip(states[1:], factors[1:], strict=True):
        total.add_(state.index_select(0, lane_slots).mul_(factor))
    return total.to(dtype)


def update_states(
    states: torch.Tensor,
    slots: torch.Tensor,
    output: torch.Tensor,
    negative: torch.Tensor,
    positive: torch.Tensor,
    guidance: torch.Tensor,
    coefficients: torch.Tensor,
    noise: torch.Tensor | None = None,
) -> None:
    """Guide the model's output and advance R rows by one line of their step tables, in place.

    For row r with coefficients c: e = out[negative] + guidance · (out[positive] − out[negative]),
    and each state s'_j = Σ_k c[j, k] · s_k + c[j, S] · e + c[j, S + 1] · z.

    Args:
        states: (S, slots + 1, C, H, W) float32, overwritten at the rows' slots alone.
        slots: (R,) int64, distinct; a row at the padding slot is inert, so that a captured graph
            can be filled up with such rows.
        output: (L, C, H, W) in the model's dtype, contiguous or channels-last.
        negative: (R,) int64, lane of the output without the prompt.
        positive: (R,) int64, lane with the prompt; the same lane for a row without guidance.
        guidance: (R,) float32.
        coefficients: (R, S, S + 2) float32.
        noise: (R, C, H, W) float32, or None where no row draws any.

    Raises:
        InvalidArgumentError: a shape, dtype or device does not fit.
    """
    check_update(states, slots, output, negative, positive, guidance, coefficients, noise)
    e = output.index_select(0, positive).float()
    without = output.index_select(0, negative).float()
    e.sub_(without).mul_(guidance[:, None, None, None]).add_(without)

    old = states.index_select(1, slots)
    terms = [*old, e] if noise is None else [*old, e, noise]
    factors = coefficients.permute(1, 2, 0)[..., None, None, None]
    new = factors[:, 0] * terms[0]
    product = torch.empty_like(new)
    for k, term in enumerate(terms[1:], start=1):
        new.add_(torch.mul(factors[:, k], term, out=product))
    inert = (slots == states.shape[1] - 1)[:, None, None, None]
    states.index_copy_(1, slots, torch.where(inert, old, new))


def group_norm_silu(
    x: torch.Tensor, groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    """Return SiLU of the group norm of x, (N, C, H, W), in x's dtype and memory format."""
    return functional.silu(functional.group_norm(x, groups, weight, bias, eps))
