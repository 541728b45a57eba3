"""Prompts of the bundled family's world, with cached neighbours at many similarities.

python -m argus.quality.domain --out FOLDER

writes prompts.csv, split, and neighbours.csv.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from argus.cache.keys import normalise_prompt
from argus.models.captions import Facts, ObjectFact, caption_of, facts_of, write_caption
from argus.models.scenes import BACKGROUNDS, COLOURS, POOR_CONTRAST, scene_at
from argus.models.shapes import SHAPES
from argus.quality.prompts import Prompt, prompt_id, write_prompts
from argus.quality.split import Shares, split_prompts

SEED = 9101
COUNTS = (1, 2, 3)
"""Objects of the scenes, in turn."""
PROMPTS, NEIGHBOURS = 720, 320
RELATED_SHARE = 0.5
"""Of the neighbours, that are made from one of the prompts by changing at most one thing."""
Change = Callable[[Facts, random.Random], Facts | None]


@dataclass(frozen=True, slots=True)
class Domain:
    """Prompts to be judged, and others whose states are cached."""

    prompts: tuple[Prompt, ...]
    neighbours: tuple[Prompt, ...]


def draw_domain(prompts: int = PROMPTS, neighbours: int = NEIGHBOURS, seed: int = SEED) -> Domain:
    """Return a domain, the same at every call.

    Prompts have one, two and three objects in equal shares. Half of them state everything about
    combinations that were held out of the family's training, the others leave things out as
    people do. No neighbour is a prompt of the set, nor would be in another case or spacing.
    """
    drawn: dict[str, tuple[Prompt, Facts]] = {}
    index = 0
    while len(drawn) < prompts:
        count = COUNTS[len(drawn) % len(COUNTS)]
        rng = random.Random((seed << 32) + index)
        held_out = len(drawn) // len(COUNTS) % 2 == 0
        scene = scene_at(seed, index, held_out=held_out, count=count)
        if held_out:
            facts = facts_of(scene, rng, full=True)
            text = write_caption(facts, rng)
        else:
            text, facts = caption_of(scene, rng)
        index += 1
        key = normalise_prompt(text)
        if key not in drawn:
            kind = f"{count} object{'s' if count > 1 else ''}"
            drawn[key] = Prompt(prompt_id(text), text, kind, group=_group(facts)), facts
    others = _neighbours(drawn, neighbours, seed + 1)
    shares = Shares(train=0.61, calibration=0.17, test=0.22)
    return Domain(split_prompts([p for p, _ in drawn.values()], shares, seed), others)


def _group(facts: Facts) -> str:
    """Return what prompts must have in common to fall into the same split: the coloured shapes."""
    return " + ".join(sorted(f"{o.colour or 'any'} {o.shape or 'shape'}" for o in facts.objects))


def _neighbours(
    drawn: dict[str, tuple[Prompt, Facts]], number: int, seed: int
) -> tuple[Prompt, ...]:
    stock: dict[str, Prompt] = {}
    kinds = Counter[str]()
    index = 0
    originals = list(drawn.values())
    while len(stock) < number:
        rng = random.Random((seed << 32) + index)
        if len(stock) < RELATED_SHARE * number:
            kind = min(CHANGES, key=lambda name: kinds[name])
            facts = CHANGES[kind](rng.choice(originals)[1], rng)
        else:
            kind = "unrelated"
            facts = facts_of(scene_at(seed, index, count=COUNTS[index % 3]), rng)
        index += 1
        if facts is None:
            continue
        text = write_caption(facts, rng)
        key = normalise_prompt(text)
        if key not in drawn and key not in stock:
            kinds[kind] += 1
            stock[key] = Prompt(prompt_id(text), text, kind)
    return tuple(stock.values())


def _with_object(facts: Facts, rng: random.Random, **changes: str | None) -> Facts:
    place = rng.randrange(len(facts.objects))
    objects: list[ObjectFact] = list(facts.objects)
    objects[place] = replace(objects[place], **changes)
    return replace(facts, objects=tuple(objects))


def _other_words(facts: Facts, rng: random.Random) -> Facts | None:
    return facts


def _other_colour(facts: Facts, rng: random.Random) -> Facts | None:
    used = {o.colour for o in facts.objects}
    poor = {colour for colour, background in POOR_CONTRAST if background == facts.background}
    return _with_object(facts, rng, colour=rng.choice([c for c in COLOURS if c not in used | poor]))


def _other_shape(facts: Facts, rng: random.Random) -> Facts | None:
    used = {o.shape for o in facts.objects}
    return _with_object(facts, rng, shape=rng.choice([s for s in SHAPES if s not in used]))


def _other_background(facts: Facts, rng: random.Random) -> Facts | None:
    colours = {o.colour for o in facts.objects}
    poor = {background for colour, background in POOR_CONTRAST if colour in colours}
    backgrounds = [b for b in BACKGROUNDS if b != facts.background and b not in poor]
    return replace(facts, background=rng.choice(backgrounds))


def _an_object_less(facts: Facts, rng: random.Random) -> Facts | None:
    if len(facts.objects) < 2:
        return None
    return Facts(facts.objects[:-1], None, facts.background)


CHANGES: dict[str, Change] = {
    "other words": _other_words,
    "other colour": _other_colour,
    "other shape": _other_shape,
    "other background": _other_background,
    "an object less": _an_object_less,
}
"""What a neighbour that is made from a prompt has in place of it."""


def write_domain(folder: Path, domain: Domain) -> Sequence[Path]:
    """Write a domain's two files and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "prompts.csv", folder / "neighbours.csv"
    write_prompts(paths[0], domain.prompts)
    write_prompts(paths[1], domain.neighbours)
    return paths


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--neighbours", type=int, default=NEIGHBOURS)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    domain = draw_domain(arguments.prompts, arguments.neighbours, arguments.seed)
    print(*write_domain(arguments.out, domain), sep="\n")


if __name__ == "__main__":
    main()
