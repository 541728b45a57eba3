"""The verifier: right on true pictures, strict on wrong captions, blobs and noise."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from argus.models.captions import Facts, ObjectFact
from argus.models.scenes import Scene
from argus.models.scorer import picture_facts
from argus.models.verifier import UNKNOWN, see, verify

Pictures = NDArray[np.uint8]


def test_all_facts_hold_on_renderings(scenes: list[Scene], pictures: Pictures) -> None:
    verdicts = [verify(p, picture_facts(s)) for p, s in zip(pictures, scenes, strict=True)]
    assert all(v.all_facts for v in verdicts)
    assert all(v.score == 1.0 and all(v.objects_right) for v in verdicts)


def test_captions_of_other_scenes_fail(scenes: list[Scene], pictures: Pictures) -> None:
    others = [*scenes[7:], *scenes[:7]]
    verdicts = [verify(p, picture_facts(s)) for p, s in zip(pictures, others, strict=True)]
    assert not any(v.all_facts for v in verdicts)
    assert np.mean([v.score for v in verdicts]) < 0.5


@pytest.mark.parametrize("change", ["shape", "colour", "size", "background", "relation", "count"])
def test_one_wrong_fact_is_found(change: str, scenes: list[Scene], pictures: Pictures) -> None:
    place = next(i for i, s in enumerate(scenes) if len(s.objects) == 2)
    facts = picture_facts(scenes[place])
    first, *rest = facts.objects
    wrong = {
        "shape": ObjectFact("ring" if first.shape == "circle" else "circle", None, None),
        "colour": ObjectFact(None, "green" if first.colour == "red" else "red", None),
        "size": ObjectFact(
            first.shape, first.colour, "small" if first.size == "large" else "large"
        ),
    }
    altered = {
        "background": Facts(facts.objects, None, "pink" if facts.background != "pink" else "gray"),
        "relation": Facts(facts.objects, "right of" if facts.relation == "left of" else "below"),
        "count": Facts((*facts.objects, first)),
    }
    if change in wrong:
        # With the other object's colour or shape kept, the match cannot simply be swapped.
        altered[change] = Facts((wrong[change], *rest), facts.relation, facts.background)
    verdict = verify(pictures[place], altered[change])
    assert not verdict.all_facts
    assert not all(v for k, v in verdict.facts.items() if k.endswith(change))


def test_blobs_and_noise_are_no_shape() -> None:
    rng = np.random.default_rng(0)
    recognised = 0
    for _ in range(60):
        field = ndimage.gaussian_filter(rng.normal(size=(64, 64)), 5)
        yy, xx = np.mgrid[:64, :64]
        near = np.exp(-((xx - 32) ** 2 + (yy - 32) ** 2) / (2 * 11.0**2))
        blob = near + 2.0 * field / field.std() * 0.15 > 0.5
        picture = np.full((64, 64, 3), 252, np.uint8)
        picture[blob] = (214, 28, 36)
        recognised += any(item.shape != UNKNOWN for item in see(picture)[0])
    assert recognised <= 6
    noise = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert not verify(noise, Facts((ObjectFact("circle", "red", None),))).all_facts


def test_an_empty_picture_has_no_objects() -> None:
    plain = np.full((64, 64, 3), 252, np.uint8)
    verdict = verify(plain, Facts((ObjectFact("circle", "red", None),), None, "white"))
    assert verdict.facts == {
        "count": False,
        "background": True,
        "object 1 colour": False,
        "object 1 shape": False,
    }
