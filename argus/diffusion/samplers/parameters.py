"""The two ways in which latents are scaled, and what a model's output says in each."""

from __future__ import annotations

import math


def unit_x0(prediction: str, alpha: float, sigma: float) -> tuple[float, float]:
    """Return (p, r) of x0 = p x + r e where x = alpha x0 + sigma noise and alpha²+sigma² = 1."""
    if prediction == "epsilon":
        return 1.0 / alpha, -sigma / alpha
    if prediction == "v_prediction":
        return alpha, -sigma
    return 0.0, 1.0  # "sample"


def unit_noise(prediction: str, alpha: float, sigma: float) -> tuple[float, float]:
    """Return (p, r) of noise = p x + r e, for the same x; divides by sigma only if it must."""
    if prediction == "epsilon":
        return 0.0, 1.0
    if prediction == "v_prediction":
        return sigma, alpha
    return 1.0 / sigma, -alpha / sigma


def sigma_x0(prediction: str, sigma: float) -> tuple[float, float]:
    """Return (p, r) of x0 = p x + r e where x = x0 + sigma noise."""
    if prediction == "epsilon":
        return 1.0, -sigma
    if prediction == "v_prediction":
        return 1.0 / (sigma * sigma + 1.0), -sigma / math.sqrt(sigma * sigma + 1.0)
    return 0.0, 1.0


def scale_in(sigma: float) -> float:
    """Return what the model's input is multiplied by where x = x0 + sigma noise."""
    return 1.0 / math.sqrt(sigma * sigma + 1.0)


def log_snr(sigma: float) -> float:
    """Return lambda = log(alpha / sigma) of a level given as sigma / alpha; infinite at 0."""
    return -math.log(sigma) if sigma > 0 else math.inf
