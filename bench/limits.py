"""What a GPU could do at most: dense bfloat16 tensor arithmetic by device name."""

from __future__ import annotations

import torch

PEAK_TFLOP_S = {
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "H200": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "A10G": 70.0,
    "A10": 125.0,
    "RTX 4090": 165.0,
}
"""The makers' data sheets, without sparsity, float32 accumulation; the first name found counts."""


def peak_flop_s(device: torch.device) -> float | None:
    """Return the data sheet's operations a second of this device; None where it is not listed."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((1e12 * peak for part, peak in PEAK_TFLOP_S.items() if part in name), None)
