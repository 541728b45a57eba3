"""What all trainings share: a budget, a learning rate, an average of weights, checkpoints."""

import math
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(slots=True)
class Budget:
    """How long one stage trains: until `samples` are seen or `limit_s` seconds are spent."""

    samples: int
    limit_s: float = math.inf
    seen: int = 0
    spent_s: float = 0.0
    _mark: float = field(default_factory=time.monotonic)

    def advance(self, samples: int) -> None:
        """Count one optimiser step's samples and the time since the last one."""
        now = time.monotonic()
        self.seen += samples
        self.spent_s += now - self._mark
        self._mark = now

    @property
    def progress(self) -> float:
        """Share of the budget used, 0 to 1."""
        return min(1.0, max(self.seen / self.samples, self.spent_s / self.limit_s))

    def learning_rate(self, peak: float, warmup: int, hold: float = 0.0) -> float:
        """Linear warm-up over `warmup` samples, flat for share `hold`, then a cosine to 2 %."""
        rise = min(1.0, self.seen / max(1, warmup))
        fall = max(0.0, self.progress - hold) / max(1e-9, 1 - hold)
        return peak * rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fall)))


class Average:
    """Exponential moving average of a module's weights, with a warm-up of the decay."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.weights = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average toward the module's present weights."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        mine, theirs = list(self.weights.values()), list(module.state_dict().values())
        torch._foreach_lerp_(mine, theirs, 1 - decay)


class Interrupt:
    """Turns SIGTERM and SIGINT into a flag, so that a stage can save itself and stop."""

    def __init__(self) -> None:
        self.wanted = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.wanted = True


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint so that a reader or a crash never sees half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    os.replace(partial, path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint written by `save_checkpoint`; tensors land on the CPU."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def precision(device: torch.device) -> torch.autocast:
    """bfloat16 autocast: matrix units on CPU and GPU, fp32 master weights."""
    return torch.autocast(device.type, dtype=torch.bfloat16)


def generator(device: torch.device, *seeds: int) -> torch.Generator:
    """A random source that depends on every number given."""
    mixed = 0
    for seed in seeds:
        mixed = (mixed * 1_000_003 + seed + 1) % (2**63)
    return torch.Generator(device).manual_seed(mixed)


def mean_loss(losses: list[Tensor]) -> float:
    """Mean of scalar losses, read from the device once."""
    return float(torch.stack(losses).mean()) if losses else math.nan
