"""The step table: a sampler as data.

Most samplers in use are linear in the latent x, the model's output e and the previous prediction
of the clean image m. One line of coefficients a step is then all there is to a sampler:

    e  = model(scale_in * x, timestep)
    m' = p * x + r * e                      the predicted clean latent (x0)
    x' = a * x + b * e + c * m              m is the m' of the step before

so that rows with different samplers, step counts and positions advance in one fused update.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLUMNS = ("timestep", "scale_in", "a", "b", "c", "p", "r")


@dataclass(frozen=True, slots=True)
class StepTable:
    """Every coefficient of one run of one sampler.

    Attributes:
        sampler: name of the sampler.
        lines: float64, shape (steps, 7), columns as in `COLUMNS`.
        initial_scale: what unit normal noise is multiplied by to start.
    """

    sampler: str
    lines: NDArray[np.float64]
    initial_scale: float

    def __post_init__(self) -> None:
        if self.lines.ndim != 2 or self.lines.shape[1] != len(COLUMNS) or not len(self.lines):
            raise ValueError(f"a step table is (steps, {len(COLUMNS)}), not {self.lines.shape}")
        if not np.isfinite(self.lines).all():
            raise ValueError(f"{self.sampler}: a coefficient is not finite")

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.lines)
