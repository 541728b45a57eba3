"""The diffusion models: two UNets over 8x8 latents, one clearly cheaper than the other."""

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from .captions import caption_of
from .scenes import Scene, render, scene_at
from .text import tokenize
from .tokenizer import build_tokenizer
from .training import (
    Average,
    Budget,
    Interrupt,
    generator,
    load_checkpoint,
    mean_loss,
    precision,
    save_checkpoint,
)

CAPTION_DROPOUT = 0.1


@dataclass(frozen=True, slots=True)
class UNetSize:
    """Widths at the 8x8 and 4x4 levels and residual blocks a level."""

    widths: tuple[int, int]
    layers: int
    attention_at_top: bool = False


def build_scheduler() -> Any:
    """Return the noise schedule of the family: scaled-linear, v-prediction, trailing steps."""
    return DDIMScheduler(  # type: ignore[no-untyped-call]
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=True,
    )


def build_unet(size: UNetSize, *, cells: int, channels: int, text_width: int) -> Any:
    """Return an untrained UNet; the pooled text joins the time embedding, as in SDXL."""
    top = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")
    if not size.attention_at_top:
        top = ("DownBlock2D", "UpBlock2D")
    return UNet2DConditionModel(  # type: ignore[no-untyped-call]
        sample_size=cells,
        in_channels=channels,
        out_channels=channels,
        down_block_types=(top[0], "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", top[1]),
        block_out_channels=size.widths,
        layers_per_block=size.layers,
        norm_num_groups=16,
        attention_head_dim=4,
        cross_attention_dim=text_width,
        addition_embed_type="text",
        addition_embed_type_num_heads=8,
    )


@torch.no_grad()
def write_pool(
    path: Path,
    vae: Any,
    *,
    count: int,
    resolution: int,
    seed: int,
    device: torch.device,
    batch: int = 256,
) -> None:
    """Encode the first `count` training scenes: float16 latents (count, C, h, w), scaled."""
    vae = vae.to(device)
    parts = []
    for start in range(0, count, batch):
        scenes = [scene_at(seed + 2, i) for i in range(start, min(start + batch, count))]
        images = render(scenes, resolution, device) * 2 - 1
        with precision(device):
            latents = vae.encode(images.contiguous(memory_format=torch.channels_last)).latents
        parts.append((latents.float() * vae.config["scaling_factor"]).half().cpu())
    save_checkpoint(path, {"latents": torch.cat(parts).contiguous()})


class Pool:
    """Encoded scenes and their captions, drawn anew each time a scene comes round."""

    def __init__(self, path: Path, seed: int) -> None:
        self.latents: Tensor = load_checkpoint(path)["latents"]
        self.seed = seed
        self.scenes: list[Scene] = [scene_at(seed + 2, i) for i in range(len(self.latents))]

    def batches(self, seen: int, size: int) -> Iterator[tuple[Tensor, list[str]]]:
        """Latents (size, C, h, w) and captions, from sample number `seen` on, for ever."""
        total = len(self.scenes)
        epoch, order = -1, torch.empty(0, dtype=torch.int64)
        while True:
            rows = []
            for position in range(seen, seen + size):
                if position // total != epoch:
                    epoch = position // total
                    source = generator(torch.device("cpu"), self.seed, 2, epoch)
                    order = torch.randperm(total, generator=source)
                rows.append(int(order[position % total]))
            captions = []
            for offset, row in enumerate(rows):
                rng = random.Random((self.seed << 34) + seen + offset)
                dropped = rng.random() < CAPTION_DROPOUT
                captions.append("" if dropped else caption_of(self.scenes[row], rng)[0])
            yield self.latents[rows].float(), captions
            seen += size


def train_unet(
    path: Path,
    size: UNetSize,
    budget: Budget,
    *,
    pool: Pool,
    text_encoder: Any,
    batch: int,
    peak_rate: float,
    seed: int,
    device: torch.device,
    interrupt: Interrupt,
    log_every: int = 100,
    save_every_s: float = 120.0,
) -> None:
    """Train one UNet by v-prediction; writes `path` now and then, and resumes from it."""
    torch.manual_seed(seed + 3)
    channels, cells = pool.latents.shape[1], pool.latents.shape[2]
    width = text_encoder.config.hidden_size
    unet = build_unet(size, cells=cells, channels=channels, text_width=width)
    unet = unet.to(device, memory_format=torch.channels_last)
    text_encoder = text_encoder.to(device)
    tokenizer = build_tokenizer()
    average = Average(unet, 0.999)
    parameters = list(unet.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=peak_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    if path.exists():
        state = load_checkpoint(path)
        unet.load_state_dict(state["model"])
        average.weights, average.steps = state["average"], state["average_steps"]
        average.weights = {k: v.to(device) for k, v in average.weights.items()}
        optimizer.load_state_dict(state["optimizer"])
        budget.seen, budget.spent_s = state["seen"], state["spent_s"]

    def save() -> None:
        content = {"model": unet.state_dict(), "average": average.weights}
        content |= {"average_steps": average.steps, "optimizer": optimizer.state_dict()}
        content |= {"seen": budget.seen, "spent_s": budget.spent_s, "size": asdict(size)}
        save_checkpoint(path, content | {"done": budget.progress >= 1})

    # The fused CPU attention kernel is slow in its backward pass on maps as small as these.
    unet.set_attn_processor(AttnProcessor())
    signal_share = build_scheduler().alphas_cumprod.to(device)
    recent: list[Tensor] = []
    saved_at = budget.spent_s
    batches = pool.batches(budget.seen, batch)
    for step, (latents, captions) in enumerate(batches, start=1):
        if budget.progress >= 1 or interrupt.wanted:
            break
        source = generator(device, seed, 3, budget.seen)
        clean = latents.to(device).contiguous(memory_format=torch.channels_last)
        noise = torch.randn(clean.shape, generator=source, device=device)
        # Logit-normal times: shape and layout are decided in the middle of the schedule.
        times = torch.sigmoid(torch.randn(batch, generator=source, device=device) + 0.2) * 1000
        times = times.long().clamp(0, 999)
        share = signal_share[times][:, None, None, None]
        noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
        target = share.sqrt() * noise - (1 - share).sqrt() * clean
        for group in optimizer.param_groups:
            group["lr"] = budget.learning_rate(peak_rate, 20_000, hold=0.5)
        with precision(device):
            with torch.no_grad():
                ids = tokenize(tokenizer, captions).to(device)
                states = text_encoder(input_ids=ids).last_hidden_state
            predicted = unet(noisy, times, states, return_dict=False)[0]
            loss = nn.functional.mse_loss(predicted.float(), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update(unet)
        budget.advance(batch)
        recent.append(loss.detach())
        if step % log_every == 0:
            rate = budget.seen / budget.spent_s
            print(
                f"{path.stem} {budget.seen} samples, {rate:.0f}/s, loss {mean_loss(recent):.4f}, "
                f"progress {budget.progress:.3f}",
                flush=True,
            )
            recent = []
        if budget.spent_s - saved_at > save_every_s:
            save()
            saved_at = budget.spent_s
    save()


def load_unet(path: Path, *, cells: int, channels: int, text_width: int) -> Any:
    """Return the averaged UNet of a checkpoint, on the CPU."""
    state = load_checkpoint(path)
    size = UNetSize(**state["size"])
    unet = build_unet(size, cells=cells, channels=channels, text_width=text_width)
    unet.load_state_dict(state["average"])
    return unet.eval().requires_grad_(False)
