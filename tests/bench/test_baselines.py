"""The rivals do what a careful operator of diffusers would have them do."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from arrivals import Kind, request
from baselines import Pipeline, PipelineServer, batch_key, load_pipeline
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from load import Ticket, saturated
from PIL import Image

from argus.types import ResolvedRequest, VariantInfo

CPU = torch.device("cpu")
VARIANT = VariantInfo("tiny-eps", "p", 32, 32, 8, 64, ("ddim",), "ddim", 50, 5.0)
GUIDED, PLAIN = Kind("ddim", 3, guided=True), Kind("ddim", 3, guided=False)
OTHER = Kind("dpmpp_2m", 3, guided=True)


def one(kind: Kind, seed: int) -> ResolvedRequest:
    return request(kind, VARIANT, f"{kind.sampler}-{kind.guided}-{seed}", "a red circle", seed)


class Watched(Pipeline):
    """Keeps what it was asked to draw together; the first call waits to be let go."""

    def __init__(self, folder: Path) -> None:
        super().__init__(load_pipeline(folder, CPU, torch.float32))
        self.batches: list[list[ResolvedRequest]] = []
        self.busy, self.go = threading.Event(), threading.Event()

    def draw(self, batch: Sequence[ResolvedRequest]) -> list[Image.Image]:
        self.batches.append(list(batch))
        self.busy.set()
        self.go.wait()
        return super().draw(batch)


@pytest.fixture
def watched(tiny_folders: dict[str, Path]) -> Iterator[Watched]:
    pipeline = Watched(tiny_folders["tiny-eps"])
    yield pipeline
    pipeline.go.set()


def test_a_batch_holds_the_pictures_of_the_plain_pipeline(tiny_folders: dict[str, Path]) -> None:
    drawn = Pipeline(load_pipeline(tiny_folders["tiny-eps"], CPU, torch.float32)).draw(
        [one(OTHER, seed) for seed in range(3)]
    )
    plain = StableDiffusionPipeline.from_pretrained(tiny_folders["tiny-eps"], safety_checker=None)
    plain.scheduler = DPMSolverMultistepScheduler.from_config(plain.scheduler.config)
    for seed, picture in enumerate(drawn):
        expected = plain(
            "a red circle",
            num_inference_steps=3,
            guidance_scale=5.0,
            generator=torch.Generator("cpu").manual_seed(seed),
        ).images[0]
        difference = np.asarray(picture).astype(int) - np.asarray(expected).astype(int)
        assert np.abs(difference).max() <= 1


def test_waiting_requests_that_are_equal_go_together_the_oldest_first(watched: Watched) -> None:
    server = PipelineServer(watched, max_lanes=4, wait_s=0.0, name="batching")
    order = [PLAIN, GUIDED, OTHER, GUIDED, PLAIN, GUIDED, PLAIN, OTHER]
    tickets = [Ticket(one(kind, seed)) for seed, kind in enumerate(order)]
    server.submit(tickets[0])
    watched.busy.wait()
    for ticket in tickets[1:]:
        server.submit(ticket)
    watched.go.set()
    for ticket in tickets:
        assert ticket.wait()
    server.close()
    # Two lanes a guided request: two of them fill four lanes.
    assert [[r.seed for r in batch] for batch in watched.batches] == [
        [0],
        [1, 3],
        [2, 7],
        [4, 6],
        [5],
    ]


def test_with_one_lane_every_request_is_drawn_alone(watched: Watched) -> None:
    watched.go.set()
    server = PipelineServer(watched, max_lanes=1, wait_s=0.0, name="alone")
    assert saturated(server, [one(GUIDED, seed) for seed in range(3)]) > 0
    server.close()
    assert [len(batch) for batch in watched.batches] == [1, 1, 1]


def test_a_server_that_waits_starts_a_full_batch_at_once(watched: Watched) -> None:
    watched.go.set()
    server = PipelineServer(watched, max_lanes=4, wait_s=3600.0, name="patient")
    assert saturated(server, [one(GUIDED, seed) for seed in range(2)]) > 0
    server.close()
    assert [len(batch) for batch in watched.batches] == [2]


def test_what_is_given_up_is_not_drawn(watched: Watched) -> None:
    server = PipelineServer(watched, max_lanes=4, wait_s=0.0, name="batching")
    tickets = [Ticket(one(kind, seed)) for seed, kind in enumerate((PLAIN, GUIDED, OTHER))]
    server.submit(tickets[0])
    watched.busy.wait()
    server.submit(tickets[1])
    waiting = threading.Thread(target=server.give_up, args=([tickets[1]],))
    waiting.start()
    watched.go.set()
    waiting.join()
    server.submit(tickets[2])
    assert tickets[2].wait()
    server.close()
    assert [[r.seed for r in batch] for batch in watched.batches] == [[0], [2]]


def test_requests_share_a_batch_only_when_the_call_would_be_the_same() -> None:
    base = one(GUIDED, 1)
    assert batch_key(base) == batch_key(replace(base, prompt="a star", seed=9, request_id="x"))
    for change in ({"steps": 4}, {"guidance": 4.0}, {"sampler": "euler"}, {"width": 64}):
        assert batch_key(base) != batch_key(replace(base, **change))


def test_a_pipeline_that_fails_fails_its_requests_and_goes_on(watched: Watched) -> None:
    watched.go.set()
    server = PipelineServer(watched, max_lanes=4, wait_s=0.0, name="batching")
    bad, good = Ticket(replace(one(GUIDED, 1), width=33)), Ticket(one(GUIDED, 2))
    server.submit(bad)
    with pytest.raises(RuntimeError, match="ValueError"):
        bad.wait()
    server.submit(good)
    assert good.wait()
    server.close()
