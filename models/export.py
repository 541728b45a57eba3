"""Writes trained checkpoints as standard diffusers and transformers folders in float16."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from .text import load_text_encoder
from .tokenizer import build_tokenizer
from .training import load_checkpoint
from .unet import build_scheduler, load_unet
from .vae import FACTOR, load_vae

SERVING_DEFAULTS = {"default_steps": 50, "default_guidance": 1.5}
"""What a server asks of these pipelines unless told otherwise; 7.5, the usual guidance, is far too
much for them."""


def build_pipeline(work: Path, variant: str, resolution: int) -> Any:
    """Assemble one variant's pipeline in float32 from the checkpoints in `work`."""
    polished = work / "decoder.pt"
    vae = load_vae(polished if polished.exists() else work / "vae.pt")
    text_encoder = load_text_encoder(work / "text.pt")
    unet = load_unet(
        work / f"{variant}.pt",
        cells=resolution // FACTOR,
        channels=vae.config["latent_channels"],
        text_width=text_encoder.config.hidden_size,
    )
    pipeline: Any = StableDiffusionPipeline(  # type: ignore[no-untyped-call]
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=build_tokenizer(),
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def export_variant(work: Path, variant: str, out: Path, resolution: int) -> Path:
    """Write `out`/`variant`, a complete StableDiffusionPipeline folder, and return it."""
    folder = out / variant
    fresh = out / f".{variant}.partial"
    shutil.rmtree(fresh, ignore_errors=True)
    build_pipeline(work, variant, resolution).to(torch.float16).save_pretrained(fresh)
    # diffusers writes this derived entry, then warns about it on loading.
    config = fresh / "vae" / "config.json"
    entries = json.loads(config.read_text())
    entries.pop("block_out_channels", None)
    config.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n")
    (fresh / "argus.json").write_text(json.dumps(SERVING_DEFAULTS, indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return folder


def write_training_record(work: Path, out: Path) -> None:
    """Write training.json: samples seen and minutes spent by every stage with a checkpoint."""
    record = {}
    for path in sorted(work.glob("*.pt")):
        state = load_checkpoint(path)
        if "seen" in state:
            minutes = round(state["spent_s"] / 60, 1)
            record[path.stem] = {"samples": state["seen"], "minutes": minutes}
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n")


def total_bytes(out: Path) -> int:
    """Size of all weight files below a folder."""
    return sum(p.stat().st_size for p in out.rglob("*.safetensors"))
