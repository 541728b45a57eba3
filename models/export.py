"""Writes trained checkpoints as standard diffusers and transformers folders in float16."""

import shutil
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from .text import load_text_encoder
from .tokenizer import build_tokenizer
from .unet import build_scheduler, load_unet
from .vae import FACTOR, load_vae


def build_pipeline(work: Path, variant: str, resolution: int) -> StableDiffusionPipeline:
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
    pipeline = StableDiffusionPipeline(
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
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return folder


def total_bytes(out: Path) -> int:
    """Size of all weight files below a folder."""
    return sum(p.stat().st_size for p in out.rglob("*.safetensors"))
