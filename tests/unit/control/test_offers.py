from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from argus.control.levels import Ladder, LevelProfile
from argus.control.offers import Offer, make_offers
from argus.control.predictor import Expectation, LevelMeans, PromptView
from argus.errors import InvalidArgumentError, NotFoundError
from argus.types import ImageRequest, Level, VariantInfo
from tests.unit.control.build import variant

BASE = variant("base")
SMALL = variant("small", max_size=64, samplers=("euler",), default_sampler="euler")
LEVELS = (
    Level("base-50", "base", 1.0, 1.0),
    Level("base-25", "base", 0.5, 0.98),
    Level("base-10", "base", 0.2, 0.9),
    Level("small-50", "small", 1.0, 0.8),
)
LADDER = Ladder.build(LevelProfile("base", LEVELS), [BASE, SMALL])


def offers(**fields: Any) -> tuple[Offer, ...]:
    values: dict[str, Any] = {"request_id": "r", "prompt": "a star", "deadline_s": 5.0}
    request = ImageRequest(**(values | fields))
    return make_offers(request, LADDER, {"base": BASE, "small": SMALL}, LevelMeans())


def names(**fields: Any) -> list[str]:
    return [offer.level.name for offer in offers(**fields)]


def test_a_deadline_opens_the_whole_ladder() -> None:
    assert names() == ["base-50", "base-25", "base-10", "small-50"]


def test_without_a_deadline_only_the_reference_is_offered() -> None:
    assert names(deadline_s=None) == ["base-50"]
    assert names(deadline_s=None, variant="small") == ["small-50"]
    assert names(deadline_s=None, level="base-10") == ["base-10"]


def test_defaults_come_from_the_reference_and_scale_with_the_level() -> None:
    found = offers(steps=40)
    assert [o.steps for o in found] == [40, 20, 8, 40]
    assert {(o.row.width, o.row.height, o.reference_steps) for o in found} == {(64, 64, 40)}
    assert [o.sampler for o in found] == ["ddim", "ddim", "ddim", "euler"]


@pytest.mark.parametrize(("guidance", "lanes"), [(None, 2), (1.0, 1), (1.1, 2), (0.0, 1)])
def test_guidance_above_one_takes_two_lanes(guidance: float | None, lanes: int) -> None:
    assert {offer.row.lanes for offer in offers(guidance=guidance)} == {lanes}


def test_guidance_that_the_model_takes_as_an_input_needs_no_second_lane() -> None:
    distilled = variant("base", guidance_embedded=True)
    request = ImageRequest(request_id="r", prompt="a star", guidance=9.0)
    (offer,) = make_offers(request, LADDER, {"base": distilled, "small": SMALL}, LevelMeans())
    assert (offer.row.lanes, offer.guidance) == (1, 9.0)


def test_levels_that_cannot_make_the_picture_are_not_offered() -> None:
    assert names(width=128) == ["base-50", "base-25", "base-10"]
    assert names(sampler="ddim") == ["base-50", "base-25", "base-10"]
    assert names(steps=2) == ["base-50", "base-25", "small-50"]


def test_a_level_is_never_left_without_a_step() -> None:
    assert names(steps=1) == ["base-50", "small-50"]
    assert all(offer.steps >= 1 for offer in offers(steps=1))


def test_the_quality_floor_hides_lower_levels() -> None:
    assert names(min_quality=0.95) == ["base-50", "base-25"]


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"width": 12}, "width", "multiples of 8 from 8 to 128 pixels, not 12"),
        ({"height": 136}, "height", "multiples of 8 from 8 to 128 pixels, not 136"),
        ({"variant": "small", "width": 128}, "width", "to 64 pixels"),
        ({"sampler": "dimm"}, "sampler", "unknown 'dimm'; variant base knows: ddim, euler"),
        ({"variant": "small", "sampler": "ddim"}, "sampler", "knows: euler"),
        ({"level": "base-10", "steps": 2}, "steps", "leaves none of 2"),
        ({"level": "small-50", "min_quality": 0.9}, "min_quality", "best predicted is 0.8"),
        ({"eta": 0.5}, "eta", "base (StableDiffusionPipeline) has no use for it; only 0 is"),
        ({"guidance_rescale": 0.7}, "guidance_rescale", "only 0 is possible, not 0.7"),
        ({"true_guidance": 4.0}, "true_guidance", "only 1 is possible, not 4"),
        ({"variant": "small", "true_guidance": 0.0}, "true_guidance", "variant small"),
    ],
)
def test_what_is_not_allowed_is_refused_with_field_and_choices(
    fields: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        offers(**fields)
    assert caught.value.field == field
    assert words in caught.value.description


def choices(
    variants: Sequence[VariantInfo], levels: LevelProfile | None = None, **fields: Any
) -> tuple[Offer, ...]:
    request = ImageRequest("r", "a star", deadline_s=5.0, **fields)
    ladder = Ladder.build(levels, variants)
    return make_offers(request, ladder, {v.name: v for v in variants}, LevelMeans())


@pytest.mark.parametrize("field", ["eta", "guidance_rescale", "true_guidance"])
def test_a_field_that_the_variant_accepts_is_served_and_its_default_by_every_variant(
    field: str,
) -> None:
    accepting = variant("base", accepts=(field,))
    assert len(choices([accepting], **{field: 0.5})) == 1
    default = 1.0 if field == "true_guidance" else 0.0
    assert len(choices([BASE], **{field: default})) == 1


def test_levels_on_variants_that_do_not_accept_a_field_are_not_offered() -> None:
    accepting = variant("base", accepts=("guidance_rescale",))
    profile = LevelProfile("base", LEVELS)
    found = choices([accepting, SMALL], profile, guidance_rescale=0.7)
    assert [offer.level.name for offer in found] == ["base-50", "base-25", "base-10"]


@pytest.mark.parametrize("asked", ["euler", ""])
def test_eta_with_a_sampler_that_has_none_is_refused_named_or_by_default(asked: str) -> None:
    default = "ddim" if asked else "euler"
    info = variant("base", accepts=("eta",), default_sampler=default)
    with pytest.raises(InvalidArgumentError, match="this request runs euler") as caught:
        choices([info], eta=1.0, sampler=asked)
    assert caught.value.field == "eta"
    assert len(choices([info], eta=1.0, sampler="ddim")) == 1
    assert len(choices([info], eta=0.0, sampler=asked)) == 1


@pytest.mark.parametrize(("true_guidance", "lanes"), [(0.0, 1), (1.0, 1), (1.5, 2)])
def test_true_guidance_is_what_takes_a_second_lane_where_guidance_is_embedded(
    true_guidance: float, lanes: int
) -> None:
    info = variant("base", guidance_embedded=True, accepts=("true_guidance",))
    (offer,) = choices([info], guidance=9.0, true_guidance=true_guidance)
    assert (offer.row.lanes, offer.guidance) == (lanes, 9.0)


def test_unknown_names_are_not_found() -> None:
    for fields in ({"variant": "x"}, {"level": "x"}):
        with pytest.raises(NotFoundError):
            offers(**fields)


def test_nothing_is_offered_while_the_reference_variant_is_nowhere() -> None:
    request = ImageRequest(request_id="r", prompt="a star")
    assert make_offers(request, LADDER, {}, LevelMeans()) == ()


def test_a_sampler_that_looks_twice_costs_twice() -> None:
    both = variant("base", samplers=("ddim", "heun"))
    ladder = Ladder.build(None, [both])
    for sampler, forwards in (("ddim", 10), ("heun", 19)):
        request = ImageRequest("r", "a star", steps=10, sampler=sampler)
        (offer,) = make_offers(request, ladder, {"base": both}, LevelMeans())
        assert (offer.steps, offer.row.forwards) == (10, forwards)


def test_a_named_variant_without_a_deadline_runs_all_its_steps() -> None:
    """Even where fewer steps were measured to be better."""
    levels = (*LEVELS[:1], Level("small-2", "small", 0.04, 0.9), Level("small-50", "small", 1, 0.8))
    ladder = Ladder.build(LevelProfile("base", levels), [BASE, SMALL])
    request = ImageRequest("r", "a star", variant="small")
    (offer,) = make_offers(request, ladder, {"base": BASE, "small": SMALL}, LevelMeans())
    assert (offer.level.name, offer.steps) == ("small-50", 50)


class Cautious:
    """Expects much of every level, and promises little of those that are not the reference."""

    embedder = ""
    variants = frozenset({"base"})

    def __init__(self) -> None:
        self.seen: list[PromptView] = []

    def predict(
        self, prompts: Sequence[PromptView], levels: Sequence[Level]
    ) -> tuple[tuple[Expectation, ...], ...]:
        self.seen += prompts
        row = tuple(Expectation(x.quality, x.quality**4) for x in levels)
        return (row,) * len(prompts)


def cautious(predictor: Cautious, **fields: Any) -> tuple[Offer, ...]:
    values: dict[str, Any] = {"request_id": "r", "prompt": "a star", "deadline_s": 5.0}
    request = ImageRequest(**(values | fields))
    variants = {"base": BASE, "small": SMALL}
    return make_offers(request, LADDER, variants, predictor, prompt=PromptView("seen", None, 0.7))


def test_min_quality_is_held_against_the_lower_bound_and_quality_is_what_is_expected() -> None:
    found = cautious(Cautious(), min_quality=0.7)
    assert [o.level.name for o in found] == ["base-50", "base-25"]
    assert [o.quality for o in found] == [1.0, 0.98]
    assert [o.lower for o in found] == pytest.approx([1.0, 0.98**4])


def test_a_floor_above_every_lower_bound_is_refused_with_the_best_of_them() -> None:
    with pytest.raises(InvalidArgumentError, match=r"0\.5 is out of reach.*0\.4096, as the lower"):
        cautious(Cautious(), min_quality=0.5, variant="small")


def test_the_predictor_sees_what_is_known_of_the_prompt() -> None:
    predictor = Cautious()
    cautious(predictor)
    assert [(p.text, p.similarity) for p in predictor.seen] == [("seen", 0.7)]
