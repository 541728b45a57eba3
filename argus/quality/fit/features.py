"""Which words and which directions of the embedding a predictor looks at, found in its prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from argus.control.learned.domain import Domain
from argus.control.learned.features import Features, Lexicon, Projection, words_of
from argus.quality.fit.data import FitData, Floats
from argus.types import Level

WORDS, COMPONENTS = 64, 16
"""Most words that are counted one by one, and directions of the embedding."""
RARE, COMMON = 0.02, 0.98
"""Words in a smaller or larger share of the prompts say too little."""
OUTSIDE = 0.01
"""Share of the prompts learned from that would themselves be strange to the others."""
LENGTH = 1.5
"""Prompts this many times as long as the longest learned from are strange."""

Classes = Mapping[str, frozenset[str]]


def bundled_classes() -> dict[str, frozenset[str]]:
    """Return what captions of the bundled family's world are made of, as classes of words."""
    from argus.models.scenes import BACKGROUNDS, COLOURS
    from argus.models.shapes import SHAPES

    nouns = {f"{shape}{end}" for shape in (*SHAPES, "shape") for end in ("", "s", "es")}
    return {
        "shapes": frozenset(nouns),
        "colours": frozenset(COLOURS),
        "backgrounds": frozenset({*BACKGROUNDS, "grey"}),
        "numbers": frozenset({"two", "2", "three", "3"}),
        "sizes": frozenset({"small", "little", "large", "big"}),
        "beside": frozenset({"left", "right"}),
        "above or below": frozenset({"above", "over", "top", "below", "under", "underneath"}),
    }


def learn_features(train: FitData, levels: Sequence[Level], classes: Classes) -> Features:
    """Return what models are given, found in the prompts to learn from.

    Args:
        train: those prompts.
        levels: with their measured means.
        classes: words that are counted together.
    """
    texts = [words_of(p.text) for p in train.prompts]
    found = Counter(word for words in texts for word in set(words))
    shares = {word: n / len(texts) for word, n in found.items()}
    telling = [word for word, _ in found.most_common() if RARE <= shares[word] <= COMMON]
    lexicon = Lexicon(tuple(sorted(telling[:WORDS])), dict(classes), frozenset(found))
    return Features(lexicon, _project(train) if train.embedder else None, tuple(levels))


def _project(train: FitData) -> Projection:
    """Return the principal components (Pearson, 1901), scaled to a spread of 1."""
    vectors = train.embeddings
    mean = vectors.mean(axis=0)
    _, spreads, axes = np.linalg.svd(vectors - mean, full_matrices=False)
    kept = min(COMPONENTS, int((spreads > 1e-6 * spreads[0]).sum()))
    scale = np.sqrt(len(vectors)) / spreads[:kept]
    return Projection(mean, axes[:kept].T * scale)


def learn_domain(train: FitData, lexicon: Lexicon) -> Domain:
    """Return where the prompts learned from lie: what all but a hundredth of them would allow.

    How near a prompt is to the others, and how many of its words they know, is measured without
    its own group, as for a prompt that is new.
    """
    shares, cosines = [], []
    words = [set(words_of(p.text)) for p in train.prompts]
    vectors = train.embeddings if train.embedder else None
    for group in np.unique(train.groups):
        own = train.groups == group
        if own.all():
            continue
        others = set[str]().union(*(w for w, mine in zip(words, own, strict=True) if not mine))
        rest = replace(lexicon, known=frozenset(others))
        shares += [
            rest.known_share(words_of(p.text))
            for p, mine in zip(train.prompts, own, strict=True)
            if mine
        ]
        if vectors is not None:
            cosines += (vectors[own] @ vectors[~own].T).max(axis=1).tolist()
    return Domain(
        most_characters=int(LENGTH * max(len(p.text) for p in train.prompts)),
        least_known=_low(np.array(shares)),
        least_cosine=_low(np.array(cosines)),
        embeddings=vectors,
    )


def _low(values: Floats) -> float:
    return float(np.quantile(values, OUTSIDE)) if len(values) else 0.0
