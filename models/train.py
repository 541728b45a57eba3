"""Trains the whole family from nothing: one command, resumable, the same for the same seed.

    python -m argus.models.train --out models/weights [--scale tiny|cpu|gpu] [--minutes N]

Stages run in order: vae, text, pool, scenes-base, scenes-small, decoder, scorer, export. With
`--stage` one can be run alone, e.g. the two UNets side by side on two cores.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from . import SCORER, VARIANTS
from .export import export_variant, total_bytes, write_training_record
from .scorer import export_scorer, train_scorer
from .text import load_text_encoder, train_text
from .training import Budget, Interrupt
from .unet import Pool, UNetSize, train_unet, write_pool
from .vae import load_vae, train_vae


@dataclass(frozen=True, slots=True)
class Plan:
    """How much each stage sees, in samples, and how wide the UNets are."""

    vae_samples: int
    decoder_samples: int
    captions: int
    pool: int
    base_samples: int
    small_samples: int
    scorer_pairs: int
    vae_batch: int
    text_batch: int
    unet_batch: int
    scorer_batch: int
    base: UNetSize
    small: UNetSize
    base_rate: float = 1e-3
    small_rate: float = 1.2e-3


PLANS = {
    "tiny": Plan(
        vae_samples=64,
        decoder_samples=16,
        captions=128,
        pool=64,
        base_samples=64,
        small_samples=64,
        scorer_pairs=64,
        vae_batch=8,
        text_batch=32,
        unet_batch=16,
        scorer_batch=16,
        base=UNetSize((32, 48), 1),
        small=UNetSize((16, 32), 1),
    ),
    "cpu": Plan(
        vae_samples=56_000,
        decoder_samples=32_000,
        captions=135_000,
        pool=100_000,
        base_samples=350_000,
        small_samples=190_000,
        scorer_pairs=110_000,
        vae_batch=16,
        text_batch=128,
        unet_batch=64,
        scorer_batch=128,
        base=UNetSize((96, 192), 1),
        small=UNetSize((32, 64), 1),
    ),
    "gpu": Plan(
        vae_samples=1_000_000,
        decoder_samples=500_000,
        captions=500_000,
        pool=400_000,
        base_samples=10_000_000,
        small_samples=10_000_000,
        scorer_pairs=2_000_000,
        vae_batch=128,
        text_batch=256,
        unet_batch=512,
        scorer_batch=512,
        base=UNetSize((128, 256), 2),
        small=UNetSize((64, 96), 1),
    ),
}
# Share of `--minutes` each stage may take; the rest is for encoding the pool and exporting.
_SHARES = {
    "vae": 0.10,
    "text": 0.03,
    "scenes-base": 0.45,
    "scenes-small": 0.22,
    "decoder": 0.06,
    "scorer": 0.10,
}


class Training:
    """One training run: its plan, its folders, and a method for every stage."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.plan: Plan = PLANS[arguments.scale]
        if arguments.unet_samples:
            base, small = arguments.unet_samples
            self.plan = replace(self.plan, base_samples=base, small_samples=small)
        self.work: Path = arguments.work
        self.out: Path = arguments.out
        self.seed: int = arguments.seed
        self.resolution: int = arguments.resolution
        self.device = torch.device(arguments.device)
        self.seconds = arguments.minutes * 60 if arguments.minutes else math.inf
        self.resume: bool = arguments.resume
        self.interrupt = Interrupt()

    def stages(self) -> dict[str, Callable[[], None]]:
        """Every stage by name, in order."""
        return {
            "vae": self.vae,
            "text": self.text,
            "pool": self.pool,
            "scenes-base": lambda: self.unet("scenes-base"),
            "scenes-small": lambda: self.unet("scenes-small"),
            "decoder": self.decoder,
            "scorer": self.scorer,
            "export": self.export,
        }

    def _checkpoint(self, stage: str) -> Path:
        path = self.work / f"{stage}.pt"
        if path.exists() and not self.resume:
            raise SystemExit(f"{path} exists: give --resume, or another --work folder")
        return path

    def _budget(self, stage: str, samples: int) -> Budget:
        return Budget(samples, self.seconds * _SHARES[stage])

    def vae(self) -> None:
        """Train the autoencoder."""
        train_vae(
            self._checkpoint("vae"),
            self._budget("vae", self.plan.vae_samples),
            resolution=self.resolution,
            batch=self.plan.vae_batch,
            seed=self.seed,
            device=self.device,
            interrupt=self.interrupt,
        )

    def text(self) -> None:
        """Train the text encoder."""
        train_text(
            self._checkpoint("text"),
            self._budget("text", self.plan.captions),
            batch=self.plan.text_batch,
            seed=self.seed,
            device=self.device,
            interrupt=self.interrupt,
        )

    def pool(self) -> None:
        """Encode the scenes the UNets learn from; done once."""
        path = self._checkpoint("pool")
        if not path.exists():
            write_pool(
                path,
                load_vae(self.work / "vae.pt"),
                count=self.plan.pool,
                resolution=self.resolution,
                seed=self.seed,
                device=self.device,
            )

    def unet(self, variant: str) -> None:
        """Train one UNet on the pool with the frozen text encoder."""
        base = variant == "scenes-base"
        plan = self.plan
        train_unet(
            self._checkpoint(variant),
            plan.base if base else plan.small,
            self._budget(variant, plan.base_samples if base else plan.small_samples),
            pool=Pool(self.work / "pool.pt", self.seed),
            text_encoder=load_text_encoder(self.work / "text.pt"),
            batch=plan.unet_batch,
            peak_rate=plan.base_rate if base else plan.small_rate,
            seed=self.seed,
            device=self.device,
            interrupt=self.interrupt,
        )

    def decoder(self) -> None:
        """Train the decoder on, with the encoder and so all latents fixed."""
        train_vae(
            self._checkpoint("decoder"),
            self._budget("decoder", self.plan.decoder_samples),
            resolution=self.resolution,
            batch=self.plan.vae_batch,
            seed=self.seed + 7,
            device=self.device,
            interrupt=self.interrupt,
            frozen_encoder=self.work / "vae.pt",
        )

    def scorer(self) -> None:
        """Train the CLIP-like scorer."""
        train_scorer(
            self._checkpoint("scorer"),
            self._budget("scorer", self.plan.scorer_pairs),
            text_encoder=load_text_encoder(self.work / "text.pt"),
            resolution=self.resolution,
            batch=self.plan.scorer_batch,
            seed=self.seed,
            device=self.device,
            interrupt=self.interrupt,
        )

    def export(self) -> None:
        """Write every trained part to the output folder."""
        self.out.mkdir(parents=True, exist_ok=True)
        for variant in VARIANTS:
            if (self.work / f"{variant}.pt").exists():
                export_variant(self.work, variant, self.out, self.resolution)
        if (self.work / "scorer.pt").exists():
            text_encoder = load_text_encoder(self.work / "text.pt")
            export_scorer(self.work / "scorer.pt", text_encoder, self.out / SCORER)
        write_training_record(self.work, self.out)
        print(f"{self.out}: {total_bytes(self.out) / 1e6:.1f} MB of weights", flush=True)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the exported weights")
    parser.add_argument("--work", type=Path, default=Path("build/train"), help="checkpoints")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if cuda else "cpu")
    parser.add_argument("--scale", choices=tuple(PLANS), help="default: cpu or gpu by device")
    parser.add_argument("--minutes", type=float, help="limit of wall time, shared among stages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resolution", type=int, default=64, help="picture edge, pixels")
    parser.add_argument("--resume", action="store_true", help="go on from checkpoints in --work")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    parser.add_argument("--stage", help="run only these stages, separated by commas")
    parser.add_argument("--unet-samples", type=int, nargs=2, metavar=("BASE", "SMALL"))
    arguments = parser.parse_args(argv)
    arguments.scale = arguments.scale or ("gpu" if arguments.device == "cuda" else "cpu")
    return arguments


def main(argv: list[str] | None = None) -> None:
    """Command line entry."""
    arguments = parse(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    training = Training(arguments)
    stages = training.stages()
    chosen = arguments.stage.split(",") if arguments.stage else list(stages)
    if unknown := set(chosen) - set(stages):
        raise SystemExit(f"no stage {sorted(unknown)}; stages are {list(stages)}")
    for name in chosen:
        if training.interrupt.wanted:
            break
        stages[name]()


if __name__ == "__main__":
    main()
