"""The step table: a sampler as data.

Most samplers in use are linear: in the latents x, the model's output e, fresh unit noise z, and a
few tensors remembered from earlier steps. A sampler is then a linear system whose state is

    s = (x, m, h2, h3, …)     x the latents, m the predicted clean latents, h what else is kept

and one line of coefficients is all there is to a step:

    e   = model(Σ_j inputs[j] · s_j, timestep)
    s'_j = Σ_k updates[j, k] · s_k + updates[j, S] · e + updates[j, S + 1] · z

so that rows with different samplers, step counts and positions advance in one fused update. With
S = 2 this holds DDIM, DDPM, Euler, Heun, DPM-Solver++ 2M and LCM; UniPC takes 3, PNDM and LMS 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LATENTS = 0
"""Index of x in the state."""
CLEAN = 1
"""Index of m, the predicted clean latents, in the state."""


@dataclass(frozen=True, slots=True)
class StepTable:
    """Every coefficient of one run of one sampler; n lines, S tensors of state.

    Attributes:
        sampler: name of the sampler.
        timesteps: (n,) float64, what the model is told.
        inputs: (n, S) float64, what the model sees.
        updates: (n, S, S + 2) float64, the next state; the last two columns are of e and z.
        steps: (n,), for each line the step of the full schedule that it belongs to, ascending. A
            sampler that looks twice in a step, such as Heun's, has two lines for it. Steps that
            were skipped or dropped are missing.
        initial_scale: what unit normal noise is multiplied by to start.
        draws_noise: whether z is drawn for every line, also for those whose coefficient is zero,
            as the diffusers scheduler does; the numbers drawn later depend on it.
        noise_in_float32: whether it is drawn in float32 whatever the model's dtype.
    """

    sampler: str
    timesteps: NDArray[np.float64]
    inputs: NDArray[np.float64]
    updates: NDArray[np.float64]
    steps: tuple[int, ...]
    initial_scale: float
    draws_noise: bool = False
    noise_in_float32: bool = False

    def __post_init__(self) -> None:
        n, s = len(self.timesteps), self.states
        if not n or s < 2:
            raise ValueError(f"{self.sampler}: a step table needs a line and two states")
        if self.inputs.shape != (n, s) or self.updates.shape != (n, s, s + 2):
            raise ValueError(
                f"{self.sampler}: inputs {self.inputs.shape} and updates {self.updates.shape} "
                f"do not fit {n} lines"
            )
        if len(self.steps) != n or list(self.steps) != sorted(self.steps):
            raise ValueError(f"{self.sampler}: steps must ascend, one for each of {n} lines")
        for part in (self.timesteps, self.inputs, self.updates):
            if not np.isfinite(part).all():
                raise ValueError(f"{self.sampler}: a coefficient is not finite")

    @property
    def forwards(self) -> int:
        """Forwards a row makes from start to end."""
        return len(self.timesteps)

    @property
    def states(self) -> int:
        """Tensors of state, x and m among them."""
        return int(self.inputs.shape[-1])

    def starts_step(self, line: int) -> bool:
        """Whether the latents before `line` are those before a step, not between two looks."""
        return line == 0 or self.steps[line] != self.steps[line - 1]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table with the two states that most samplers need.

    The model sees in_x x + in_m m; then m' = p x + q m + r e and x' = a x + c m + b e + d z.
    """

    timestep: float
    step: int
    a: float
    b: float
    p: float
    r: float
    in_x: float = 1.0
    in_m: float = 0.0
    c: float = 0.0
    d: float = 0.0
    q: float = 0.0

    @property
    def inputs(self) -> Sequence[float]:
        """(2,) what the model sees."""
        return (self.in_x, self.in_m)

    @property
    def updates(self) -> Sequence[Sequence[float]]:
        """(2, 4) the next state."""
        return ((self.a, self.c, self.b, self.d), (self.p, self.q, self.r, 0.0))


@dataclass(frozen=True, slots=True)
class WideLine:
    """One line of a table with S states: `inputs` is (S,), `updates` holds S rows of (S + 2,)."""

    timestep: float
    step: int
    inputs: NDArray[np.float64]
    updates: Sequence[NDArray[np.float64]]


def table_of(
    sampler: str,
    lines: Sequence[Line] | Sequence[WideLine],
    initial_scale: float,
    *,
    draws_noise: bool = False,
    noise_in_float32: bool = False,
) -> StepTable:
    """Return the table of those lines.

    Raises:
        ValueError: there is none, or a coefficient is not finite.
    """
    return StepTable(
        sampler,
        np.array([line.timestep for line in lines], dtype=np.float64),
        np.array([line.inputs for line in lines], dtype=np.float64),
        np.array([line.updates for line in lines], dtype=np.float64),
        tuple(line.step for line in lines),
        initial_scale,
        draws_noise,
        noise_in_float32,
    )
