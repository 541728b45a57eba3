"""Other ways to gather and update on a CPU, measured against the one in argus.kernels.reference.

Each takes the same arguments and gives the same numbers; some round differently. Rows at the
padding slot, which only captured graphs have, are left out here.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from argus.kernels import reference

SOURCE = Path(__file__).with_suffix(".cpp")
Gather = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.dtype], torch.Tensor]
Update = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Form:
    """A gather and an update; `module`-shaped, so that StepSample can run it."""

    gather_inputs: Gather
    update_states: Update


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values[..., None, None, None]


def _guided(
    output: torch.Tensor, negative: torch.Tensor, positive: torch.Tensor, guidance: torch.Tensor
) -> torch.Tensor:
    without = output.index_select(0, negative).float()
    return without.addcmul(_wide(guidance), output.index_select(0, positive).float() - without)


def gather_by_addcmul(
    states: torch.Tensor, lane_slots: torch.Tensor, weights: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """Accumulate in place, product and sum in one pass."""
    total = states[0].index_select(0, lane_slots).mul_(_wide(weights[:, 0]))
    for j in range(1, states.shape[0]):
        total.addcmul_(states[j].index_select(0, lane_slots), _wide(weights[:, j]))
    return total.to(dtype)


def update_by_addcmul(
    states: torch.Tensor,
    slots: torch.Tensor,
    output: torch.Tensor,
    negative: torch.Tensor,
    positive: torch.Tensor,
    guidance: torch.Tensor,
    coefficients: torch.Tensor,
    noise: torch.Tensor | None,
) -> None:
    """Accumulate all new states at once, product and sum in one pass."""
    terms = [*states.index_select(1, slots), _guided(output, negative, positive, guidance)]
    terms += [] if noise is None else [noise]
    factors = _wide(coefficients.permute(1, 2, 0))
    new = factors[:, 0] * terms[0]
    for k, term in enumerate(terms[1:], start=1):
        new.addcmul_(term, factors[:, k])
    states.index_copy_(1, slots, new)


def gather_by_einsum(
    states: torch.Tensor, lane_slots: torch.Tensor, weights: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """One contraction over the gathered states."""
    chosen = states.index_select(1, lane_slots)
    return torch.einsum("slchw,ls->lchw", chosen, weights).to(dtype)


def update_by_bmm(
    states: torch.Tensor,
    slots: torch.Tensor,
    output: torch.Tensor,
    negative: torch.Tensor,
    positive: torch.Tensor,
    guidance: torch.Tensor,
    coefficients: torch.Tensor,
    noise: torch.Tensor | None,
) -> None:
    """One small matrix product a row; its order of summation is the library's choice."""
    e = _guided(output, negative, positive, guidance)
    parts = [states.index_select(1, slots).transpose(0, 1).flatten(2), e.flatten(1)[:, None]]
    parts += [] if noise is None else [noise.flatten(1)[:, None]]
    terms = torch.cat(parts, 1)
    new = torch.bmm(coefficients[:, :, : terms.shape[1]], terms)
    shape = (len(slots), states.shape[0], *states.shape[2:])
    states.index_copy_(1, slots, new.view(shape).transpose(0, 1))


def gather_by_row(
    states: torch.Tensor, lane_slots: torch.Tensor, weights: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """Lane by lane, with Python's numbers as factors and no copy of the states."""
    factors = weights.tolist()
    total = torch.empty((len(lane_slots), *states.shape[2:]))
    for lane, slot in enumerate(lane_slots.tolist()):
        torch.mul(states[0, slot], factors[lane][0], out=total[lane])
        for j in range(1, states.shape[0]):
            total[lane].add_(states[j, slot], alpha=factors[lane][j])
    return total.to(dtype)


def update_by_row(
    states: torch.Tensor,
    slots: torch.Tensor,
    output: torch.Tensor,
    negative: torch.Tensor,
    positive: torch.Tensor,
    guidance: torch.Tensor,
    coefficients: torch.Tensor,
    noise: torch.Tensor | None,
) -> None:
    """Row by row, with Python's numbers as factors and no copy of the states."""
    lines, scales = coefficients.tolist(), guidance.tolist()
    lanes = zip(slots.tolist(), negative.tolist(), positive.tolist(), strict=True)
    for r, (slot, low, high) in enumerate(lanes):
        e = output[low].float()
        if low != high:
            e = e.add(output[high].float() - e, alpha=scales[r])
        terms = [*states[:, slot], e] + ([] if noise is None else [noise[r]])
        new = []
        for line in lines[r]:
            total = terms[0] * line[0]
            for k in range(1, len(terms)):
                total.add_(terms[k], alpha=line[k])
            new.append(total)
        for state, value in zip(states[:, slot], new, strict=True):
            state.copy_(value)


def fused_cpp(folder: Path) -> Form:
    """Compile step_forms.cpp with g++ and return it; float32 outputs alone, one thread."""
    library = folder / "step_forms.so"
    subprocess.run(
        ["g++", "-O3", "-march=native", "-shared", "-fPIC", f"-o{library}", str(SOURCE)],
        check=True,
    )
    loaded = ctypes.CDLL(str(library))
    loaded.gather.argtypes = [ctypes.c_int64] * 4 + [ctypes.c_void_p] * 4
    loaded.update.argtypes = [ctypes.c_int64] * 4 + [ctypes.c_void_p] * 8

    def gather(
        states: torch.Tensor, lane_slots: torch.Tensor, weights: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        inputs = torch.empty((len(lane_slots), *states.shape[2:]))
        sizes = (states.shape[0], states.stride(0), states.stride(1), len(lane_slots))
        tensors = (states, lane_slots, weights, inputs)
        loaded.gather(*sizes, *(tensor.data_ptr() for tensor in tensors))
        return inputs.to(dtype)

    def update(states: torch.Tensor, slots: torch.Tensor, *rest: torch.Tensor | None) -> None:
        sizes = (states.shape[0], states.stride(0), states.stride(1), len(slots))
        tensors = (states, slots, *rest)
        loaded.update(*sizes, *(None if t is None else t.data_ptr() for t in tensors))

    return Form(gather, update)


REFERENCE = "mul, add (the reference)"
FORMS = {
    REFERENCE: Form(reference.gather_inputs, reference.update_states),
    "addcmul": Form(gather_by_addcmul, update_by_addcmul),
    "einsum, bmm": Form(gather_by_einsum, update_by_bmm),
    "row by row": Form(gather_by_row, update_by_row),
}
