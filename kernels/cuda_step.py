"""A step's gather and update in CUDA C++, loaded when first used; see `argus.kernels.build`."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

import torch

from argus.errors import FailedPreconditionError, InternalError, InvalidArgumentError
from argus.kernels.build import LIBRARY, source_digest
from argus.kernels.checks import check_gather, check_update, dense, is_channels_last

DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
MAX_STATES = 6
"""States that step.cu has kernels for."""

_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_GATHER = (_POINTER, _LONG, _LONG, _INT, _POINTER, _POINTER, _POINTER, _INT, _LONG, _POINTER)
_UPDATE = (
    *(_POINTER, _LONG, _LONG, _LONG, _INT, _POINTER, _POINTER, _INT, _POINTER),
    *(_POINTER, _POINTER, _POINTER, _POINTER, _LONG, _INT, _LONG, _POINTER),
)


@lru_cache
def load(path: Path = LIBRARY) -> ctypes.CDLL:
    """Return the compiled library with its signatures declared.

    Raises:
        FailedPreconditionError: it is absent, does not load, or was made from another step.cu.
    """
    remedy = "run `python -m argus.kernels.build`"
    if not path.is_file():
        raise FailedPreconditionError(f"{path} is not there: {remedy}")
    try:
        library = declared(ctypes.CDLL(str(path)))
    except (OSError, AttributeError) as error:
        raise FailedPreconditionError(f"{path} cannot be used ({error}): {remedy}") from error
    if library.argus_step_source().decode() != source_digest():
        raise FailedPreconditionError(f"{path} was made from another step.cu: {remedy}")
    return library


def declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the signatures of step.cu in a library; AttributeError where one is missing."""
    library.argus_step_source.restype = ctypes.c_char_p
    library.argus_step_error.restype = ctypes.c_char_p
    library.argus_step_gather.argtypes = _GATHER
    library.argus_step_update.argtypes = _UPDATE
    return library


def gather_inputs(
    states: torch.Tensor, lane_slots: torch.Tensor, weights: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """Do what `argus.kernels.reference.gather_inputs` does.

    Raises:
        FailedPreconditionError: the library cannot be loaded.
        InternalError: CUDA refuses the launch.
    """
    check_gather(states, lane_slots, weights, dtype)
    _check_reach(states)
    shape = (lane_slots.numel(), *states.shape[2:])
    inputs = torch.empty(shape, dtype=dtype, device=states.device)
    with torch.cuda.device(states.device):
        stream = torch.cuda.current_stream().cuda_stream
        launch_gather(load(), states, lane_slots, weights, inputs, stream)
    return inputs


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
    """Do what `argus.kernels.reference.update_states` does.

    Raises:
        FailedPreconditionError: the library cannot be loaded.
        InternalError: CUDA refuses the launch.
    """
    check_update(states, slots, output, negative, positive, guidance, coefficients, noise)
    _check_reach(states)
    lanes = (negative, positive, guidance)
    with torch.cuda.device(states.device):
        stream = torch.cuda.current_stream().cuda_stream
        launch_update(load(), states, slots, dense(output), lanes, coefficients, noise, stream)


def launch_gather(
    library: ctypes.CDLL,
    states: torch.Tensor,
    lane_slots: torch.Tensor,
    weights: torch.Tensor,
    inputs: torch.Tensor,
    stream: int,
) -> None:
    """Start the library's gather of checked tensors into `inputs`; InternalError if refused."""
    code = library.argus_step_gather(
        states.data_ptr(),
        states.stride(0),
        states.stride(1),
        states.shape[0],
        lane_slots.data_ptr(),
        weights.data_ptr(),
        inputs.data_ptr(),
        DTYPES[inputs.dtype],
        lane_slots.numel(),
        stream,
    )
    _raise_for(library, code)


def launch_update(
    library: ctypes.CDLL,
    states: torch.Tensor,
    slots: torch.Tensor,
    output: torch.Tensor,
    lanes: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    coefficients: torch.Tensor,
    noise: torch.Tensor | None,
    stream: int,
) -> None:
    """Start the library's update of checked tensors; InternalError if refused.

    `lanes` are the negative lanes, the positive lanes and the guidance of the rows.
    """
    negative, positive, guidance = lanes
    code = library.argus_step_update(
        states.data_ptr(),
        states.stride(0),
        states.stride(1),
        states.shape[1] - 1,
        states.shape[0],
        slots.data_ptr(),
        output.data_ptr(),
        DTYPES[output.dtype],
        negative.data_ptr(),
        positive.data_ptr(),
        guidance.data_ptr(),
        coefficients.data_ptr(),
        None if noise is None else noise.data_ptr(),
        states.shape[2],
        is_channels_last(output),
        slots.numel(),
        stream,
    )
    _raise_for(library, code)


def _check_reach(states: torch.Tensor) -> None:
    if not states.is_cuda:
        raise InvalidArgumentError("states", f"on {states.device}; the CUDA kernels need cuda")
    if states.shape[0] > MAX_STATES:
        raise InvalidArgumentError("states", f"{states.shape[0]} of them; at most {MAX_STATES}")


def _raise_for(library: ctypes.CDLL, code: int) -> None:
    if code:
        raise InternalError(
            f"CUDA refused a step kernel: {library.argus_step_error(code).decode()}"
        )
