"""The step table: a sampler as data.

Most samplers in use are linear in the latent x, the model's output e and the previous prediction
of the clean image m. One line of coefficients a step is then all there is to a sampler:

    e  = model(in_x * x + in_m * m, timestep)
    m' = p * x + q * m + r * e              the predicted clean latent (x0)
    x' = a * x + b * e + c * m + d * z      m is the m' of the step before, z fresh unit noise

so that rows with different samplers, step counts and positions advance in one fused update.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLUMNS = ("timestep", "in_x", "in_m", "a", "b", "c", "d", "p", "q", "r")


@dataclass(frozen=True, slots=True)
class StepTable:
    """Every coefficient of one run of one sampler.

    Attributes:
        sampler: name of the sampler.
        lines: float64, shape (forwards, 10), columns as in `COLUMNS`. A sampler that looks twice
            in a step, such as Heun's, has two lines for it.
        initial_scale: what unit normal noise is multiplied by to start.
        draws_noise: whether z is drawn for every line, also for those whose d is zero, as the
            diffusers scheduler does; the numbers drawn later depend on it.
    """

    sampler: str
    lines: NDArray[np.float64]
    initial_scale: float
    draws_noise: bool = False

    def __post_init__(self) -> None:
        if self.lines.ndim != 2 or self.lines.shape[1] != len(COLUMNS) or not len(self.lines):
            raise ValueError(f"a step table is (forwards, {len(COLUMNS)}), not {self.lines.shape}")
        if not np.isfinite(self.lines).all():
            raise ValueError(f"{self.sampler}: a coefficient is not finite")

    @property
    def forwards(self) -> int:
        """Forwards a row makes from start to end."""
        return len(self.lines)
