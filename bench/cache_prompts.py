"""Prompts of the bundled family for `make bench-cache`: cached ones, and new ones near them.

New prompts, which are what is judged, state combinations that were held out of all training
(models/README.md). Each is of a kind that says what the cached prompt made for it differs in.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from argus.cache.keys import normalise_prompt
from argus.models.captions import Facts, facts_of, write_caption
from argus.models.scenes import BACKGROUNDS, COLOURS, POOR_CONTRAST, SIZES, scene_at
from argus.models.shapes import SHAPES

SEED = 7001
TURNED = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
Change = Callable[[Facts, random.Random], Facts | None]
"""Facts that differ in one thing, or None where these have no such thing."""


@dataclass(frozen=True, slots=True)
class NewPrompt:
    """A prompt to be served, what it states, and how its cached counterpart differs."""

    text: str
    facts: Facts
    kind: str


def _with_object(facts: Facts, rng: random.Random, **changes: str | None) -> Facts:
    place = rng.randrange(len(facts.objects))
    objects = list(facts.objects)
    objects[place] = replace(objects[place], **changes)
    return replace(facts, objects=tuple(objects))


def _reworded(facts: Facts, rng: random.Random) -> Facts | None:
    return facts


def _less_said(facts: Facts, rng: random.Random) -> Facts | None:
    if any(o.size for o in facts.objects):
        return replace(facts, objects=tuple(replace(o, size=None) for o in facts.objects))
    return replace(facts, background=None)


def _colour(facts: Facts, rng: random.Random) -> Facts | None:
    used = {o.colour for o in facts.objects}
    poor = {colour for colour, background in POOR_CONTRAST if background == facts.background}
    colours = [c for c in COLOURS if c not in used | poor]
    return _with_object(facts, rng, colour=rng.choice(colours))


def _shape(facts: Facts, rng: random.Random) -> Facts | None:
    used = {o.shape for o in facts.objects}
    return _with_object(facts, rng, shape=rng.choice([s for s in SHAPES if s not in used]))


def _size(facts: Facts, rng: random.Random) -> Facts | None:
    if not all(o.size for o in facts.objects):
        return None
    place = rng.randrange(len(facts.objects))
    objects = list(facts.objects)
    other = SIZES[1 - SIZES.index(str(objects[place].size))]
    objects[place] = replace(objects[place], size=other)
    return replace(facts, objects=tuple(objects))


def _background(facts: Facts, rng: random.Random) -> Facts | None:
    colours = {o.colour for o in facts.objects}
    poor = {background for colour, background in POOR_CONTRAST if colour in colours}
    backgrounds = [b for b in BACKGROUNDS if b != facts.background and b not in poor]
    return replace(facts, background=rng.choice(backgrounds))


def _relation(facts: Facts, rng: random.Random) -> Facts | None:
    return replace(facts, relation=TURNED[facts.relation]) if facts.relation else None


def _object_more(facts: Facts, rng: random.Random) -> Facts | None:
    if len(facts.objects) < 2:
        return None
    return Facts(facts.objects[:-1], None, facts.background)


KINDS: dict[str, Change | None] = {
    "other words": _reworded,
    "less said": _less_said,
    "other background": _background,
    "other size": _size,
    "other colour": _colour,
    "other shape": _shape,
    "turned round": _relation,
    "an object less": _object_more,
    "unrelated": None,
}
"""What the cached prompt that is made for a new one has in place of it."""
COUNTS = (1, 2, 1, 2, 3)
"""Objects of the scenes, in turn."""


def draw(new: int, cached: int) -> tuple[list[str], list[NewPrompt]]:
    """Return `cached` prompts for the cache and `new` others, the same ones at every call.

    No new prompt is cached, also when case and spaces are left out of account.
    """
    fresh: dict[str, NewPrompt] = {}
    stock: dict[str, None] = {}
    index = 0
    while len(fresh) < new:
        pair = _pair(index, list(KINDS)[len(fresh) % len(KINDS)])
        index += 1
        if pair is None:
            continue
        prompt, counterpart = pair
        text = normalise_prompt(prompt.text)
        if text == counterpart or text in fresh or text in stock or counterpart in fresh:
            continue
        fresh[text] = prompt
        if counterpart:
            stock[counterpart] = None
    index = 0
    while len(stock) < cached:
        rng = random.Random(2 * SEED + index)
        scene = scene_at(SEED + 1, index, count=COUNTS[index % len(COUNTS)])
        index += 1
        text = normalise_prompt(write_caption(facts_of(scene, rng, full=True), rng))
        if text not in fresh:
            stock[text] = None
    return list(stock), list(fresh.values())


def _pair(index: int, kind: str) -> tuple[NewPrompt, str] | None:
    """Return a new prompt and its cached counterpart, empty for the unrelated; None: not of it."""
    rng = random.Random(SEED + index)
    # Only two objects have a relation, and only scenes of up to two state sizes.
    counts = {"turned round": 2, "other size": 1 + index % 2, "an object less": 2 + index % 2}
    count = counts.get(kind, COUNTS[index % len(COUNTS)])
    facts = facts_of(scene_at(SEED, index, held_out=True, count=count), rng, full=True)
    prompt = NewPrompt(write_caption(facts, rng), facts, kind)
    change = KINDS[kind]
    if change is None:
        return prompt, ""
    changed = change(facts, rng)
    return None if changed is None else (prompt, normalise_prompt(write_caption(changed, rng)))
