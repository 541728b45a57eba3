"""Scores the exported pipelines on held-out prompts and writes evaluation.json and the card.

python -m argus.models.evaluate [--weights DIR] [--prompts 200]
"""

import argparse
import json
import platform
import random
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from transformers import CLIPModel

from . import SCORER, VARIANTS, bundled_dir
from .captions import Facts, facts_of, write_caption
from .card import write_card, write_sheet
from .levels import write_levels
from .scenes import Scene, render, scene_at
from .scorer import recall_at_one, similarities
from .verifier import Verdict, see, verify

GUIDANCE = 1.5
RUNS = (
    *(("base", steps) for steps in (50, 25, 10, 5, 3, 2, 1)),
    *(("small", steps) for steps in (50, 10, 5, 3, 2, 1)),
)
Images = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A held-out caption with what it states and a scene that shows it."""

    text: str
    facts: Facts
    scene: Scene

    @property
    def count(self) -> int:
        """Number of objects asked for."""
        return len(self.facts.objects)


def held_out_prompts(number: int, seed: int = 4242) -> list[Prompt]:
    """Distinct captions of held-out scenes: two fifths of one, two fifths of two, else three."""
    prompts: dict[str, Prompt] = {}
    counts = (1, 2, 1, 2, 3)
    index = 0
    while len(prompts) < number:
        count = counts[len(prompts) % len(counts)]
        scene = scene_at(seed, index, held_out=True, count=count)
        rng = random.Random(seed + index)
        facts = facts_of(scene, rng, full=True)
        text = write_caption(facts, rng)
        prompts.setdefault(text, Prompt(text, facts, scene))
        index += 1
    return list(prompts.values())


def to_bytes(images: torch.Tensor) -> Images:
    """Images (N, 3, H, W) in [0, 1] as (N, H, W, 3) uint8."""
    array: Images = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return array


def load_pipeline(folder: Path, device: str = "cpu") -> Any:
    """Load an exported pipeline in float32 without touching the network."""
    pipeline = StableDiffusionPipeline.from_pretrained(  # type: ignore[no-untyped-call]
        folder, dtype=torch.float32, local_files_only=True
    ).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(
    pipeline: Any,
    texts: Sequence[str],
    steps: int,
    *,
    guidance: float = GUIDANCE,
    seed: int = 0,
    batch: int = 20,
) -> Images:
    """One image per text, (N, H, W, 3) uint8; text i always starts from seed `seed` + i."""
    parts = []
    for start in range(0, len(texts), batch):
        chunk = list(texts[start : start + batch])
        sources = [torch.Generator().manual_seed(seed + start + i) for i in range(len(chunk))]
        images = pipeline(
            chunk,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=sources,
            output_type="pt",
        ).images
        parts.append(to_bytes(images))
    return np.concatenate(parts)


def summarise(
    verdicts: Sequence[Verdict], counts: Sequence[int], cosine: Sequence[float]
) -> dict[str, Any]:
    """Rates by number of objects ("1", "2", "3", "all"), with n."""
    rows: dict[str, Any] = {}
    for group in ("1", "2", "3", "all"):
        chosen = [i for i, c in enumerate(counts) if group in ("all", str(c))]
        true, stated = Counter[str](), Counter[str]()
        for i in chosen:
            for name, holds in verdicts[i].facts.items():
                true[name.split()[-1]] += holds
                stated[name.split()[-1]] += 1
        objects = [right for i in chosen for right in verdicts[i].objects_right]
        rows[group] = {
            "n": len(chosen),
            "all_facts": round(float(np.mean([verdicts[i].all_facts for i in chosen])), 3),
            "object": round(float(np.mean(objects)), 3),
            "mean_score": round(float(np.mean([verdicts[i].score for i in chosen])), 3),
            "scorer_cosine": round(float(np.mean([cosine[i] for i in chosen])), 3),
            "facts": {k: round(true[k] / stated[k], 3) for k in sorted(stated)},
        }
    return rows


def judge(images: Images, prompts: Sequence[Prompt], scorer: Any) -> dict[str, Any]:
    """Verify and score one image per prompt."""
    verdicts = [verify(image, p.facts) for image, p in zip(images, prompts, strict=True)]
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    cosine = similarities(scorer, tensor, [p.text for p in prompts]).diagonal().tolist()
    return summarise(verdicts, [p.count for p in prompts], cosine)


@torch.no_grad()
def reconstruct(pipeline: Any, images: torch.Tensor) -> torch.Tensor:
    """Encode and decode images (N, 3, H, W) in [0, 1]."""
    vae = pipeline.vae
    decoded: torch.Tensor = vae.decode(vae.encode(images * 2 - 1).latents).sample
    return (decoded + 1) / 2


def step_times(pipeline: Any) -> dict[str, float]:
    """Median milliseconds of one UNet call at 1 and 8 lanes on one CPU thread in float32."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    unet = pipeline.unet
    edge, width = unet.config.sample_size, unet.config.cross_attention_dim
    times = {}
    for lanes in (1, 8):
        latents = torch.randn(lanes, unet.config.in_channels, edge, edge)
        text = torch.randn(lanes, pipeline.tokenizer.model_max_length, width)
        taken = []
        with torch.no_grad():
            for _ in range(30):
                start = time.perf_counter()
                unet(latents, 500, text)
                taken.append(time.perf_counter() - start)
        times[f"lanes_{lanes}_ms"] = round(1000 * float(np.median(taken[5:])), 1)
    torch.set_num_threads(threads)
    return times


def calibrate(pipeline: Any, n: int = 400) -> dict[str, float]:
    """2nd percentile of each shape's overlap over reconstructions of training scenes.

    Only recognised objects count, so it is a check that the verifier's thresholds do not drift
    above what the autoencoder can draw.
    """
    scenes = [scene_at(31, i) for i in range(n)]
    found: dict[str, list[float]] = {}
    edge = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    for image in to_bytes(reconstruct(pipeline, render(scenes, edge))):
        for item in see(image)[0]:
            found.setdefault(item.shape, []).append(item.overlap)
    return {k: round(float(np.percentile(v, 2)), 3) for k, v in sorted(found.items())}


def evaluate(weights: Path, number: int) -> dict[str, Any]:
    """Run everything the card reports; images come from the folders in `weights`."""
    prompts = held_out_prompts(number)
    texts = [p.text for p in prompts]
    scorer = CLIPModel.from_pretrained(weights / SCORER, dtype=torch.float32, local_files_only=True)
    pipelines = {name: load_pipeline(weights / name) for name in VARIANTS}
    base = pipelines["scenes-base"]
    edge = base.unet.config.sample_size * base.vae_scale_factor
    real = render([p.scene for p in prompts], edge)
    results = {"renderings": judge(to_bytes(real), prompts, scorer)}
    results["reconstructions"] = judge(to_bytes(reconstruct(base, real)), prompts, scorer)
    drawn: dict[str, Images] = {}
    for name, steps in RUNS:
        start = time.perf_counter()
        images = generate(pipelines[f"scenes-{name}"], texts, steps)
        results[f"{name}, {steps} steps"] = judge(images, prompts, scorer)
        results[f"{name}, {steps} steps"]["seconds"] = round(time.perf_counter() - start, 1)
        drawn[f"{name} {steps}"] = images
        print(name, steps, results[f"{name}, {steps} steps"], flush=True)
    results["base, 50 steps, shuffled captions"] = judge(
        drawn["base 50"], _shuffled(prompts), scorer
    )
    sheet = {k: drawn[k] for k in ("base 50", "small 50", "base 10")}
    write_sheet(weights.parent / "samples.png", texts, sheet)
    return {
        "prompts": len(prompts),
        "guidance": GUIDANCE,
        "sampler": "DDIM, trailing steps",
        "results": results,
        "scorer_recall_at_1": recall_at_one(scorer, 0, edge),
        "unet_step": {name: step_times(p) for name, p in pipelines.items()},
        "unet_parameters": {
            name: sum(w.numel() for w in p.unet.parameters()) for name, p in pipelines.items()
        },
        "reconstruction_overlap_2nd_percentile": calibrate(base),
        "cpu": _cpu_name(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }


def add_runs(weights: Path, report: dict[str, Any], runs: Sequence[tuple[str, int]]) -> None:
    """Judge further (name, steps) runs on the prompts of a report and put them into it."""
    prompts = held_out_prompts(report["prompts"])
    scorer = CLIPModel.from_pretrained(weights / SCORER, dtype=torch.float32, local_files_only=True)
    for name, steps in runs:
        images = generate(
            load_pipeline(weights / f"scenes-{name}"),
            [p.text for p in prompts],
            steps,
            guidance=report["guidance"],
        )
        report["results"][f"{name}, {steps} steps"] = judge(images, prompts, scorer)


def _cpu_name() -> str:
    """Name of the processor, as Linux gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _shuffled(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Give every place the caption of the next one with as many objects."""
    result = list(prompts)
    for count in (1, 2, 3):
        places = [i for i, p in enumerate(prompts) if p.count == count]
        for here, there in zip(places, places[1:] + places[:1], strict=True):
            result[here] = prompts[there]
    return result


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=bundled_dir())
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--add", help="judge only these runs, e.g. base:5, into evaluation.json")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    path = arguments.weights / "evaluation.json"
    if arguments.add:
        report = json.loads(path.read_text())
        pairs = [run.split(":") for run in arguments.add.split(",")]
        add_runs(arguments.weights, report, [(name, int(steps)) for name, steps in pairs])
    else:
        report = evaluate(arguments.weights, arguments.prompts)
    path.write_text(json.dumps(report, indent=2) + "\n")
    write_card(arguments.weights)
    write_levels(arguments.weights)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
