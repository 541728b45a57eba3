"""A CLIP-like scorer of the same world: how well a picture fits a caption.

The text tower starts from the trained text encoder. The picture tower learns from the contrast
with captions and from naming the facts of the picture itself.
"""

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from .captions import Facts, ObjectFact, caption_of, write_caption
from .scenes import Scene, render, scene_at
from .text import FactHeads, fact_loss, state_labels, tokenize
from .tokenizer import build_tokenizer
from .training import (
    Budget,
    Interrupt,
    generator,
    load_checkpoint,
    mean_loss,
    precision,
    save_checkpoint,
)

MEAN, STD = 0.5, 0.5


def build_scorer(text_encoder: Any, resolution: int) -> Any:
    """Return a CLIPModel whose text tower is a copy of the text encoder."""
    text = text_encoder.config.to_dict()
    vision = {
        "hidden_size": 160,
        "intermediate_size": 480,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": resolution,
        "patch_size": resolution // 8,
        "hidden_act": "gelu",
    }
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=128)
    model = CLIPModel(config)
    model.text_model.load_state_dict(text_encoder.state_dict())
    return model


def picture_facts(scene: Scene) -> Facts:
    """Everything there is to say of a scene: the target of the picture tower."""
    objects = tuple(ObjectFact(o.shape, o.colour, o.size or None) for o in scene.objects)
    relation = None
    if len(objects) == 2:
        relation = "left of" if scene.layout == "row" else "above"
    return Facts(objects, relation, scene.background)


def _corrupt(images: Tensor, source: torch.Generator) -> Tensor:
    """Blur and add noise to some pictures, so that generated ones are not foreign."""
    count = len(images)
    small = nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    mix = torch.rand((count, 1, 1, 1), generator=source, device=images.device)
    noise = torch.randn(images.shape, generator=source, device=images.device)
    level = 0.06 * torch.rand((count, 1, 1, 1), generator=source, device=images.device)
    return (mix * small + (1 - mix) * images + level * noise).clamp(0, 1)


def train_scorer(
    path: Path,
    budget: Budget,
    *,
    text_encoder: Any,
    resolution: int,
    batch: int,
    seed: int,
    device: torch.device,
    interrupt: Interrupt,
    log_every: int = 100,
) -> None:
    """Train on rendered scenes and write the checkpoint `path`, from which it also resumes."""
    torch.manual_seed(seed + 4)
    tokenizer = build_tokenizer()
    model = build_scorer(text_encoder, resolution).to(device)
    # As in the UNets, the fused CPU kernel's backward pass is slow at these lengths.
    model.set_attn_implementation("eager")
    heads = FactHeads(model.config.vision_config.hidden_size).to(device)
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.02)
    if path.exists():
        state = load_checkpoint(path)
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        budget.seen, budget.spent_s = state["seen"], state["spent_s"]

    def save() -> None:
        content = {"model": model.state_dict(), "heads": heads.state_dict()}
        content |= {"optimizer": optimizer.state_dict(), "resolution": resolution}
        content |= {"seen": budget.seen, "spent_s": budget.spent_s}
        save_checkpoint(path, content | {"done": budget.progress >= 1})

    step, recent, recent_facts = 0, [], []
    while budget.progress < 1 and not interrupt.wanted:
        scenes = [scene_at(seed + 5, budget.seen + i) for i in range(batch)]
        captions = [
            caption_of(s, random.Random((seed << 35) + budget.seen + i))[0]
            for i, s in enumerate(scenes)
        ]
        ids = tokenize(tokenizer, captions).to(device)
        labels = torch.tensor([state_labels(picture_facts(s)) for s in scenes], device=device)
        source = generator(device, seed, 5, budget.seen)
        images = (_corrupt(render(scenes, resolution, device), source) - MEAN) / STD
        for group in optimizer.param_groups:
            group["lr"] = budget.learning_rate(1e-3, 20_000)
        with precision(device):
            output = model(input_ids=ids, pixel_values=images)
            similarity = output.logits_per_text.float()
            target = _soft_targets(captions).to(device)
            contrast = -(target * similarity.log_softmax(1)).sum(1).mean()
            contrast = contrast - (target * similarity.t().log_softmax(1)).sum(1).mean()
            logits = heads.state_logits(output.vision_model_output.last_hidden_state[:, 0])
            named = fact_loss(logits, labels)
            loss = 0.5 * contrast + 2 * named
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=4.2)
        budget.advance(batch)
        recent.append(contrast.detach() / 2)
        recent_facts.append(named.detach())
        step += 1
        if step % log_every == 0:
            rate = budget.seen / budget.spent_s
            print(
                f"scorer {budget.seen} pairs, {rate:.0f}/s, contrast {mean_loss(recent):.3f}, "
                f"facts {mean_loss(recent_facts):.4f}",
                flush=True,
            )
            recent, recent_facts = [], []
            save()
    save()


def _soft_targets(captions: list[str]) -> Tensor:
    """Row-normalised (N, N): equal captions are each other's matches, not negatives."""
    numbers = {c: i for i, c in enumerate(dict.fromkeys(captions))}
    index = torch.tensor([numbers[c] for c in captions])
    same = (index[:, None] == index[None]).float()
    return same / same.sum(1, keepdim=True)


def load_scorer(path: Path, text_encoder: Any) -> Any:
    """Return the trained scorer of a checkpoint, on the CPU."""
    state = load_checkpoint(path)
    model = build_scorer(text_encoder, state["resolution"])
    model.load_state_dict(state["model"])
    return model.eval().requires_grad_(False)


def export_scorer(path: Path, text_encoder: Any, folder: Path) -> None:
    """Write the scorer as a transformers CLIPModel folder with its processor, in float16."""
    model = load_scorer(path, text_encoder)
    edge = model.config.vision_config.image_size
    pictures = CLIPImageProcessor(
        size={"shortest_edge": edge},
        crop_size={"height": edge, "width": edge},
        image_mean=[MEAN] * 3,
        image_std=[STD] * 3,
    )
    model.half().save_pretrained(folder)
    processor = CLIPProcessor(pictures, build_tokenizer())  # type: ignore[no-untyped-call]
    processor.save_pretrained(folder)


@torch.no_grad()
def similarities(model: Any, images: Tensor, captions: list[str]) -> Tensor:
    """Cosine of every caption with every image: (captions, images); images (N,3,H,W) in [0,1]."""
    ids = tokenize(build_tokenizer(), captions)
    output = model(input_ids=ids, pixel_values=(images - MEAN) / STD)
    cosine: Tensor = output.text_embeds @ output.image_embeds.t()
    return cosine


def recall_at_one(
    model: Any, seed: int, resolution: int, most: int = 256
) -> dict[str, dict[str, float]]:
    """How often a held-out caption picks its own picture, by number of objects.

    Every candidate differs from all others in what it shows and its caption states all of it; so
    there are fewer than `most` of one object. Gives `n` and `recall` for each count.
    """
    result = {}
    for count in (1, 2, 3):
        chosen: dict[Facts, Scene] = {}
        for i in range(20 * most):
            scene = scene_at(seed + 6, i, held_out=True, count=count)
            chosen.setdefault(picture_facts(scene), scene)
            if len(chosen) == most:
                break
        captions = [write_caption(facts, random.Random(i)) for i, facts in enumerate(chosen)]
        cosine = similarities(model, render(list(chosen.values()), resolution), captions)
        hits = (cosine.argmax(1) == torch.arange(len(chosen))).float().mean()
        result[str(count)] = {"n": len(chosen), "recall": round(float(hits), 3)}
    return result
