"""Every kind of folder, under every sampler it serves, with and without guidance, against the
`__call__` of its own diffusers pipeline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from parity import Pair, make_request
from tiny_models import TINY

from argus.diffusion.flow import FLOW_SAMPLERS
from argus.diffusion.samplers import SAMPLERS

UNETS = [name for name in TINY if "sd3" not in name and "flux" not in name]
FLOWS = [name for name in TINY if name not in UNETS]
GUIDED_UNETS = [name for name in UNETS if "lcm" not in name]
CASES = [
    *((variant, sampler) for variant in UNETS for sampler in SAMPLERS),
    *((variant, sampler) for variant in FLOWS for sampler in FLOW_SAMPLERS),
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    root = tmp_path_factory.mktemp("tiny")
    pair = Pair({name: save(root / name) for name, save in TINY.items()})
    yield pair
    pair.close()


def check(pair: Pair, variant: str, sampler: str, **changes: Any) -> None:
    found = pair.compare(make_request(variant, sampler, **changes))
    assert found.latents <= found.bound, found
    assert found.pixels <= 1, found


@pytest.mark.parametrize("guidance", [5.0, 1.0])
@pytest.mark.parametrize(("variant", "sampler"), CASES)
def test_latents_and_picture_equal_the_pipelines_own(
    pair: Pair, variant: str, sampler: str, guidance: float
) -> None:
    if sampler not in pair.engine.adapters[variant].info.samplers:
        pytest.skip(f"{variant} does not serve {sampler}")
    check(pair, variant, sampler, guidance=guidance)


@pytest.mark.parametrize("variant", GUIDED_UNETS)
@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_rescaled_guidance_equals_the_pipelines_own(pair: Pair, variant: str, sampler: str) -> None:
    check(pair, variant, sampler, guidance=9.0, guidance_rescale=0.7, negative_prompt="blue")


@pytest.mark.parametrize("variant", ["tiny-flux", "tiny-flux-fast"])
@pytest.mark.parametrize("negative", ["blue", ""])
@pytest.mark.parametrize("guidance", [3.5, 1.0])
def test_true_guidance_of_flux_equals_the_pipelines_own(
    pair: Pair, variant: str, negative: str, guidance: float
) -> None:
    check(
        pair,
        variant,
        "flow_euler",
        guidance=guidance,
        true_guidance=4.0,
        negative_prompt=negative,
        width=48,
    )


@pytest.mark.parametrize("variant", ["tiny-lcm", "tiny-lcm-xl"])
@pytest.mark.parametrize("guidance", [8.5, 3.3, 0.0])
def test_embedded_guidance_tells_and_takes_one_lane(
    pair: Pair, variant: str, guidance: float
) -> None:
    assert pair.engine.adapters[variant].info.guidance_embedded
    wanted = make_request(variant, "lcm", steps=4, guidance=guidance)
    found = pair.compare(wanted)
    assert found.latents <= found.bound
    other, _ = pair.ours(make_request(variant, "lcm", steps=4, guidance=guidance + 1.0))
    assert not other.equal(pair.ours(wanted)[0])


@pytest.mark.parametrize(("steps", "guidance"), [(1, 0.0), (4, 0.0)])
def test_a_turbo_request_equals_the_pipelines_own(pair: Pair, steps: int, guidance: float) -> None:
    for variant, sampler in (("tiny-v-zero-snr", "euler"), ("tiny-xl", "euler_a")):
        check(pair, variant, sampler, steps=steps, guidance=guidance)


def test_a_consistency_pipelines_folder_is_served_as_that_pipeline_draws(tmp_path: Path) -> None:
    folder = TINY["tiny-lcm"](tmp_path / "tiny-lcm")
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = "LatentConsistencyModelPipeline"
    (folder / "model_index.json").write_text(json.dumps(index))
    pair = Pair({"tiny-lcm": folder})
    try:
        info = pair.engine.adapters["tiny-lcm"].info
        assert (info.pipeline, info.default_guidance) == (index["_class_name"], 8.5)
        check(pair, "tiny-lcm", "lcm", steps=4, guidance=8.5)
    finally:
        pair.close()


def test_variants_accept_what_their_pipelines_do(pair: Pair) -> None:
    accepts = {name: set(a.info.accepts) for name, a in pair.engine.adapters.items()}
    for name in UNETS:
        rescale = {"guidance_rescale"} if name in GUIDED_UNETS else set()
        assert accepts[name] == {"eta"} | rescale
    for name in FLOWS:
        assert accepts[name] == ({"true_guidance"} if "flux" in name else set())
