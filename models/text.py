"""The text encoder: a small CLIP text transformer taught from captions alone, then frozen.

Linear heads must read the facts of a caption from the end-of-text state and from a padding state,
with objects in reading order whatever the wording; and each noun's attributes from its own state.
Binding and relations are thus solved before the diffusion model first looks at the text.
"""

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .captions import Facts, ObjectFact, caption_of
from .scenes import BACKGROUNDS, COLOURS, SIZES, scene_at
from .shapes import SHAPES
from .tokenizer import LENGTH, build_tokenizer
from .training import Budget, Interrupt, load_checkpoint, mean_loss, precision, save_checkpoint

# Classes of one object; 0 stands for "not stated" or, past the count, "no such object".
_OBJECT_CLASSES = (1 + len(SHAPES), 1 + len(COLOURS), 1 + len(SIZES))
# Count (0 for an empty caption), axis of the relation, background.
_GLOBAL_CLASSES = (4, 3, 1 + len(BACKGROUNDS))
_STATE_CLASSES = _OBJECT_CLASSES * 3 + _GLOBAL_CLASSES
_IGNORE = -100


def build_text_encoder(tokenizer: CLIPTokenizer, width: int = 128) -> Any:
    """Return an untrained text encoder for the tokenizer's vocabulary."""
    end = tokenizer.eos_token_id
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids (N, LENGTH), int64, padded and cut as the pipelines do."""
    encoded = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
    ids: Tensor = encoded["input_ids"]
    return ids


def _object_labels(fact: ObjectFact) -> list[int]:
    return [
        1 + SHAPES.index(fact.shape) if fact.shape else 0,
        1 + tuple(COLOURS).index(fact.colour) if fact.colour else 0,
        1 + SIZES.index(fact.size) if fact.size else 0,
    ]


def state_labels(facts: Facts | None) -> list[int]:
    """Class of each head of the end-of-text state; None is the empty caption."""
    if facts is None:
        return [0] * len(_STATE_CLASSES)
    ordered = facts.in_reading_order()
    labels: list[int] = []
    for i in range(3):
        labels += _object_labels(ordered.objects[i]) if i < len(ordered.objects) else [0] * 3
    axis = {None: 0, "left of": 1, "above": 2}[ordered.relation]
    background = 1 + tuple(BACKGROUNDS).index(facts.background) if facts.background else 0
    return [*labels, len(facts.objects), axis, background]


def _noun_labels(ids: Tensor, facts: list[Facts | None], nouns: Tensor) -> Tensor:
    """Labels (N, LENGTH, 3) of each noun token's own attributes, _IGNORE elsewhere."""
    labels = torch.full((*ids.shape, 3), _IGNORE)
    for i, (row, fact) in enumerate(zip(torch.isin(ids, nouns), facts, strict=True)):
        # Plural captions have one noun for several equal objects: zip stops at the noun.
        for place, item in zip(row.nonzero().flatten().tolist(), fact.objects if fact else ()):  # noqa: B905
            labels[i, place] = torch.tensor(_object_labels(item))
    return labels


class FactHeads(nn.Module):
    """Linear readers of the encoder's states; used in training and by the scorer's training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.state = nn.Linear(width, sum(_STATE_CLASSES))
        self.noun = nn.Linear(width, sum(_OBJECT_CLASSES))

    def state_logits(self, states: Tensor) -> tuple[Tensor, ...]:
        """Logits of every caption-wide fact for states (N, width)."""
        logits: tuple[Tensor, ...] = self.state(states).split(_STATE_CLASSES, -1)
        return logits

    def noun_logits(self, states: Tensor) -> tuple[Tensor, ...]:
        """Logits of the attributes of the noun at each of the states (M, width)."""
        logits: tuple[Tensor, ...] = self.noun(states).split(_OBJECT_CLASSES, -1)
        return logits


def fact_loss(logits: tuple[Tensor, ...], labels: Tensor) -> Tensor:
    """Mean cross-entropy over heads for labels (N, heads)."""
    losses = [
        nn.functional.cross_entropy(x.float(), labels[:, i], ignore_index=_IGNORE)
        for i, x in enumerate(logits)
    ]
    return torch.stack(losses).mean()


def all_right(logits: tuple[Tensor, ...], labels: Tensor) -> Tensor:
    """Bool (N,): every head names its class."""
    return torch.stack([x.argmax(-1) == labels[:, i] for i, x in enumerate(logits)]).all(0)


def caption_batch(
    seed: int, start: int, count: int, *, held_out: bool = False
) -> tuple[list[str], list[Facts | None]]:
    """Fresh captions of scenes `start`…; in training one in fifty is empty."""
    captions: list[str] = []
    facts: list[Facts | None] = []
    for i in range(start, start + count):
        rng = random.Random((seed << 33) + i)
        if not held_out and i % 50 == 0:
            captions.append("")
            facts.append(None)
            continue
        caption, stated = caption_of(scene_at(seed + 1, i, held_out=held_out), rng)
        captions.append(caption)
        facts.append(stated)
    return captions, facts


def train_text(
    path: Path,
    budget: Budget,
    *,
    batch: int,
    seed: int,
    device: torch.device,
    interrupt: Interrupt,
    log_every: int = 100,
) -> None:
    """Train on captions and write the checkpoint `path`, from which it also resumes."""
    torch.manual_seed(seed + 1)
    tokenizer = build_tokenizer()
    model = build_text_encoder(tokenizer).to(device)
    heads = FactHeads(model.config.hidden_size).to(device)
    nouns = [*SHAPES, *(s + "s" for s in SHAPES), "shape", "shapes", "crosses"]
    noun_ids = torch.tensor([i for n in nouns for i in tokenizer(n)["input_ids"][1:-1]]).unique()  # type: ignore[no-untyped-call]
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    if path.exists():
        state = load_checkpoint(path)
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        budget.seen, budget.spent_s = state["seen"], state["spent_s"]

    step, recent, right = 0, [], []
    while budget.progress < 1 and not interrupt.wanted:
        captions, facts = caption_batch(seed, budget.seen, batch)
        ids = tokenize(tokenizer, captions)
        labels = torch.tensor([state_labels(f) for f in facts], device=device)
        noun_labels = _noun_labels(ids, facts, noun_ids).to(device)
        ids = ids.to(device)
        for group in optimizer.param_groups:
            group["lr"] = budget.learning_rate(1.5e-3, 6000)
        with precision(device):
            output = model(input_ids=ids)
            states, end = output.last_hidden_state, output.pooler_output
            state_logits = heads.state_logits(end)
            # The end-of-text state and the last padding state both go to the cross-attention.
            loss = fact_loss(state_logits, labels)
            loss = loss + 0.5 * fact_loss(heads.state_logits(states[:, -1]), labels)
            named = noun_labels[..., 0] != _IGNORE
            loss = loss + 0.5 * fact_loss(heads.noun_logits(states[named]), noun_labels[named])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        budget.advance(batch)
        recent.append(loss.detach())
        right.append(all_right(state_logits, labels).float().mean())
        step += 1
        if step % log_every == 0:
            rate = budget.seen / budget.spent_s
            print(
                f"text {budget.seen} captions, {rate:.0f}/s, loss {mean_loss(recent):.4f}, "
                f"all facts {mean_loss(right):.4f}",
                flush=True,
            )
            recent, right = [], []
    score = score_text(model, heads, seed, device)
    print(f"text: all facts right on held-out captions {score:.4f}", flush=True)
    save_checkpoint(
        path,
        {
            "model": model.state_dict(),
            "heads": heads.state_dict(),
            "optimizer": optimizer.state_dict(),
            "seen": budget.seen,
            "spent_s": budget.spent_s,
            "held_out_all_facts": score,
            "done": budget.progress >= 1,
        },
    )


@torch.no_grad()
def score_text(
    model: Any, heads: FactHeads, seed: int, device: torch.device, n: int = 1000
) -> float:
    """Share of `n` held-out captions whose every fact is read right from the end state."""
    captions, facts = caption_batch(seed, 0, n, held_out=True)
    ids = tokenize(build_tokenizer(), captions).to(device)
    labels = torch.tensor([state_labels(f) for f in facts], device=device)
    logits = heads.state_logits(model(input_ids=ids).pooler_output)
    return float(all_right(logits, labels).float().mean())


def load_text_encoder(path: Path) -> Any:
    """Return the trained, frozen text encoder of a checkpoint, on the CPU."""
    model = build_text_encoder(build_tokenizer())
    model.load_state_dict(load_checkpoint(path)["model"])
    return model.eval().requires_grad_(False)
