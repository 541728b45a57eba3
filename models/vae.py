"""The autoencoder: 8x8 cells of 8 channels in which shape and colour are easy to read.

A 1x1 head must name, from each noisy latent cell alone, the shape and colour of what covers it.
So the class of a shape becomes a smooth, strong part of the latent instead of fine detail, and
the diffusion model learns it early (the idea of semantically aligned latents: VA-VAE, REPA-E).
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from .scenes import BACKGROUNDS, COLOURS, cell_labels, render, scene_at
from .shapes import SHAPES
from .training import (
    Budget,
    Interrupt,
    generator,
    load_checkpoint,
    mean_loss,
    precision,
    save_checkpoint,
)

FACTOR = 8
HEAD_NOISE = 0.5
DECODER_NOISE = 0.3


def build_vae(width: int = 32, channels: int = 8) -> Any:
    """Return an untrained autoencoder of stride 8; most blocks sit at the cheap 8x8 level."""
    return AutoencoderTiny(  # type: ignore[no-untyped-call]
        encoder_block_out_channels=(width,) * 4,
        decoder_block_out_channels=(width,) * 4,
        latent_channels=channels,
        num_encoder_blocks=(0, 1, 2, 4),
        num_decoder_blocks=(4, 3, 2, 0),
    )


class CellHead(nn.Module):
    """Reads the shape and colour class of each latent cell; used in training only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shape = nn.Conv2d(channels, 1 + len(SHAPES), 1)
        self.colour = nn.Conv2d(channels, len(BACKGROUNDS) + len(COLOURS), 1)

    def loss(self, latents: Tensor, shapes: Tensor, colours: Tensor) -> Tensor:
        """Mean cross-entropy of both maps for latents (N, C, h, w)."""
        return nn.functional.cross_entropy(
            self.shape(latents), shapes
        ) + nn.functional.cross_entropy(self.colour(latents), colours)


def train_vae(
    path: Path,
    budget: Budget,
    *,
    resolution: int,
    batch: int,
    seed: int,
    device: torch.device,
    interrupt: Interrupt,
    frozen_encoder: Path | None = None,
    log_every: int = 100,
) -> None:
    """Train on rendered scenes and write the checkpoint `path`, from which it also resumes.

    With `frozen_encoder`, a finished checkpoint, only the decoder learns on, so that latents
    already computed stay valid.
    """
    torch.manual_seed(seed)
    vae = build_vae().to(device, memory_format=torch.channels_last)
    head = CellHead(vae.config["latent_channels"]).to(device)
    if frozen_encoder:
        vae.load_state_dict(load_checkpoint(frozen_encoder)["model"])
        vae.encoder.requires_grad_(False)
        head.requires_grad_(False)
    parameters = [p for p in (*vae.parameters(), *head.parameters()) if p.requires_grad]
    peak_rate = 1e-3 if frozen_encoder else 2.5e-3
    optimizer = torch.optim.Adam(parameters, lr=peak_rate, betas=(0.9, 0.99))
    if path.exists():
        state = load_checkpoint(path)
        vae.load_state_dict(state["model"])
        head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
        budget.seen, budget.spent_s = state["seen"], state["spent_s"]

    cells = resolution // FACTOR
    step, recent, recent_head = 0, [], []
    while budget.progress < 1 and not interrupt.wanted:
        scenes = [scene_at(seed, budget.seen + i) for i in range(batch)]
        images = render(scenes, resolution, device) * 2 - 1
        shapes, colours = (m.to(device) for m in cell_labels(scenes, cells))
        # Backgrounds fill most of a picture; the objects are what must come out sharp.
        near = nn.functional.interpolate((shapes > 0).float()[:, None], scale_factor=FACTOR)
        weight = (1 + 4 * nn.functional.max_pool2d(near, 5, 1, 2)) / 2
        random = generator(device, seed, 1, budget.seen)
        for group in optimizer.param_groups:
            group["lr"] = budget.learning_rate(peak_rate, 3000)
        with precision(device):
            latents = vae.encoder(images.contiguous(memory_format=torch.channels_last)).float()
            noise = torch.randn(latents.shape, generator=random, device=device)
            sigma = torch.rand((batch, 1, 1, 1), generator=random, device=device)
            output = vae.decoder(latents + DECODER_NOISE * sigma * noise).float()
            head_loss = head.loss(latents + HEAD_NOISE * noise, shapes, colours)
        error = output - images
        pixel_loss = (weight * (error.abs() + 2 * error.square())).mean()
        spread = latents.std((0, 2, 3)) - 1
        centre = latents.mean((0, 2, 3))
        # Without a gradient path to the encoder these terms are constants.
        loss = pixel_loss + 0.1 * head_loss + 0.02 * (spread.square() + centre.square()).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        budget.advance(batch)
        recent.append(error.detach().square().mean())
        recent_head.append(head_loss.detach())
        step += 1
        if step % log_every == 0:
            psnr = -10 * torch.log10(torch.stack(recent).mean() / 4)
            rate = budget.seen / budget.spent_s
            print(
                f"{path.stem} {budget.seen} samples, {rate:.0f}/s, psnr {psnr:.2f} dB, "
                f"cell classes {mean_loss(recent_head):.3f}",
                flush=True,
            )
            recent, recent_head = [], []
    # The UNets know the latents at the frozen encoder's scale: it must not be measured again.
    scale = (
        load_checkpoint(frozen_encoder)["scale"]
        if frozen_encoder
        else _latent_scale(vae, resolution, seed, device)
    )
    save_checkpoint(
        path,
        {
            "model": vae.state_dict(),
            "head": head.state_dict(),
            "optimizer": optimizer.state_dict(),
            "seen": budget.seen,
            "spent_s": budget.spent_s,
            "scale": scale,
            "done": budget.progress >= 1,
        },
    )


@torch.no_grad()
def _latent_scale(vae: Any, resolution: int, seed: int, device: torch.device) -> float:
    """1 / standard deviation of the latents over 256 training scenes."""
    images = render([scene_at(seed, i) for i in range(256)], resolution, device) * 2 - 1
    return float(1 / vae.encode(images).latents.std())


def load_vae(path: Path) -> Any:
    """Return the trained autoencoder of a checkpoint, on the CPU, with its scaling factor."""
    state = load_checkpoint(path)
    vae = build_vae()
    vae.load_state_dict(state["model"])
    vae.register_to_config(scaling_factor=state["scale"])
    return vae.eval().requires_grad_(False)
