"""Plain-English captions: what a caption states, how it is written, how it is read back."""

import random
import re
from dataclasses import dataclass, replace

from .scenes import BACKGROUNDS, COLOURS, Scene
from .shapes import SHAPES

RELATIONS = ("left of", "right of", "above", "below")
_PHRASES = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "underneath"),
}
_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
_OPENINGS = ("", "", "", "a picture of ", "an image of ", "a drawing of ", "there is ")
_NUMBERS = {2: ("two", "2"), 3: ("three", "3")}
_SIZE_WORDS = {"small": ("small", "small", "little"), "large": ("large", "large", "big")}
_BACKGROUND_WORDS = {name: (name,) for name in BACKGROUNDS} | {"gray": ("gray", "grey")}


@dataclass(frozen=True, slots=True)
class ObjectFact:
    """What a caption says of one object; None where it says nothing."""

    shape: str | None
    colour: str | None
    size: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a caption states. `relation` holds from the first object to the second.

    Objects stand in the order of the caption, which without a relation is reading order.
    """

    objects: tuple[ObjectFact, ...]
    relation: str | None = None
    background: str | None = None

    def in_reading_order(self) -> "Facts":
        """The same facts with the left, or else the upper, object first."""
        if self.relation in ("right of", "below"):
            turned = (self.objects[1], self.objects[0], *self.objects[2:])
            return replace(self, objects=turned, relation=_OPPOSITE[self.relation])
        return self


def _noun_phrase(fact: ObjectFact, rng: random.Random, number: int = 1) -> str:
    words = [rng.choice(_SIZE_WORDS[fact.size])] if fact.size else []
    words += [fact.colour] if fact.colour else []
    noun = fact.shape or "shape"
    if number > 1:
        words = [rng.choice(_NUMBERS[number]), *words, noun + ("es" if noun == "cross" else "s")]
        return " ".join(words)
    words.append(noun)
    return ("an " if words[0][0] in "aeio" else "a ") + " ".join(words)


def _thin(fact: ObjectFact, rng: random.Random) -> ObjectFact:
    """Leave attributes out now and then, as people do; colour or shape always stays."""
    chance = rng.random()
    shape = None if chance < 0.04 else fact.shape
    colour = None if 0.04 <= chance < 0.11 else fact.colour
    return ObjectFact(shape, colour, fact.size if rng.random() < 0.5 else None)


def facts_of(scene: Scene, rng: random.Random, *, full: bool = False) -> Facts:
    """Choose what to say of a scene; `full` keeps every shape, colour and the background."""
    objects = tuple(ObjectFact(o.shape, o.colour, o.size or None) for o in scene.objects)
    background = scene.background if full or rng.random() < 0.5 else None
    if full:
        keep_size = rng.random() < 0.5
        objects = tuple(replace(o, size=o.size if keep_size else None) for o in objects)
    elif len(set(objects)) == 1:
        objects = (_thin(objects[0], rng),) * len(objects)
    else:
        objects = tuple(_thin(o, rng) for o in objects)
    facts = Facts(objects, None, background)
    if len(objects) == 2 and rng.random() < 0.75:
        facts = replace(facts, relation="left of" if scene.layout == "row" else "above")
        if rng.random() < 0.5:
            assert facts.relation is not None
            facts = Facts(objects[::-1], _OPPOSITE[facts.relation], background)
    return facts


def write_caption(facts: Facts, rng: random.Random) -> str:
    """Put facts into one of several plain forms."""
    same = len(set(facts.objects)) == 1 and len(facts.objects) > 1
    if same and facts.relation is None:
        body = _noun_phrase(facts.objects[0], rng, len(facts.objects))
    else:
        names = [_noun_phrase(o, rng) for o in facts.objects]
        if facts.relation:
            body = f"{names[0]} {rng.choice(_PHRASES[facts.relation])} {names[1]}"
        elif len(names) > 1:
            body = ", ".join(names[:-1]) + " and " + names[-1]
        else:
            body = names[0]
    text = rng.choice(_OPENINGS) + body
    if facts.background:
        word = rng.choice(_BACKGROUND_WORDS[facts.background])
        form = rng.random()
        if form < 0.2:
            return f"on a {word} background, {text}"
        text += f" on a {word} background"
    return text


def caption_of(scene: Scene, rng: random.Random) -> tuple[str, Facts]:
    """Return a fresh caption of a scene and the facts it states."""
    facts = facts_of(scene, rng)
    return write_caption(facts, rng), facts


_SIZE_OF = {w: size for size, words in _SIZE_WORDS.items() for w in words}
_COUNT_OF = {w: n for n, words in _NUMBERS.items() for w in words}
_NOUN_OF: dict[str, str | None] = {"shape": None, "shapes": None}
_NOUN_OF |= {s: s for s in SHAPES} | {s + "s": s for s in SHAPES} | {"crosses": "cross"}
_RELATION_OF = {p: relation for relation, phrases in _PHRASES.items() for p in phrases}
_BACKGROUND = re.compile(r"\b(?:on|over|with) an? (\w+) background\b")
_OPENING = re.compile(r"^(?:(?:a|an|the) (?:picture|image|drawing|photo) of|there (?:is|are)) ")
_SPLIT = re.compile(
    r"\s*(?:\b("
    + "|".join(sorted(map(re.escape, _RELATION_OF), key=len, reverse=True))
    + r")\b|,|\band\b)\s*"
)


def _read_noun_phrase(words: list[str]) -> list[ObjectFact] | None:
    """Read e.g. ["two", "large", "red", "circles"] as that many object facts."""
    number = 1
    if words and words[0] in ("a", "an", "the", "one"):
        words = words[1:]
    elif words and words[0] in _COUNT_OF:
        number, words = _COUNT_OF[words[0]], words[1:]
    if not words or words[-1] not in _NOUN_OF:
        return None
    size = colour = None
    for word in words[:-1]:
        if word in _SIZE_OF and size is None and colour is None:
            size = _SIZE_OF[word]
        elif word in COLOURS and colour is None:
            colour = word
        else:
            return None
    return [ObjectFact(_NOUN_OF[words[-1]], colour, size)] * number


def parse_caption(text: str) -> Facts | None:
    """Read the facts a caption states, or None if it is not about this world.

    Understands every form `write_caption` makes and small variations of them.
    """
    text = re.sub(r"\s+", " ", text.lower()).strip(" .!")
    background = None
    if found := _BACKGROUND.search(text):
        background = {"grey": "gray"}.get(found[1], found[1])
        if background not in BACKGROUNDS:
            return None
        text = (text[: found.start()] + text[found.end() :]).strip(" ,")
    text = _OPENING.sub("", text + " ").strip()
    pieces = _SPLIT.split(text)
    objects: list[ObjectFact] = []
    for phrase in filter(None, pieces[::2]):
        read = _read_noun_phrase(phrase.split())
        if read is None:
            return None
        objects += read
    relations = [_RELATION_OF[p] for p in pieces[1::2] if p]
    if not 1 <= len(objects) <= 3 or (relations and len(objects) != 2) or len(relations) > 1:
        return None
    return Facts(tuple(objects), relations[0] if relations else None, background)
