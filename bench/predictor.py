"""`make bench-predictor`: what one prediction takes, with the bundled family's predictor."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import record

from argus.config import CoordinatorConfig
from argus.control.learned.fitted import FittedPredictor
from argus.control.predictor import PromptView
from argus.coordinator.predictors import load_predictor
from argus.quality.domain import draw_domain

BATCHES = (1, 4, 16, 64)
ROUNDS = 30


def measure(predictor: FittedPredictor, prompts: list[PromptView]) -> list[dict[str, Any]]:
    """Return milliseconds by size of the batch: the least and the median of the rounds."""
    rows = []
    for batch in BATCHES:
        taken = []
        for i in range(ROUNDS):
            part = [prompts[(i * batch + k) % len(prompts)] for k in range(batch)]
            began = time.perf_counter()
            predictor.predict(part, predictor.levels)
            taken.append(1000 * (time.perf_counter() - began))
        rows.append(
            {
                "prompts": batch,
                "ms a batch, least": min(taken),
                "ms a batch, median": float(np.median(taken)),
                "ms a prompt, least": min(taken) / batch,
            }
        )
    return rows


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--predictor", default="", help="folder; default: the bundled family's")
    arguments = parser.parse_args()
    predictor = load_predictor(CoordinatorConfig(predictor=arguments.predictor))
    if not isinstance(predictor, FittedPredictor):
        parser.error("there is no fitted predictor; make fit makes it")
    rng = np.random.default_rng(0)
    known = predictor.domain.embeddings
    prompts = []
    for i, prompt in enumerate(draw_domain(200, 1).prompts):
        # Real prompts with vectors that were learned from: what matters here is only the time.
        vector = None if known is None else known[i % len(known)].astype(np.float32)
        prompts.append(PromptView(prompt.text, vector, float(rng.uniform(0.5, 1.0))))
    rows = measure(predictor, prompts)
    tables = {f"{predictor.model.kind}, {len(predictor.levels)} levels": rows}
    print(record.write(arguments.out, "predictor", tables))


if __name__ == "__main__":
    main()
