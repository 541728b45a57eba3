"""Both clients against a scripted server over loopback: the same tests for each."""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import argus
from argus import client as client_module
from argus.client import (
    AsyncClient,
    Client,
    Event,
    Failure,
    Image,
    Preview,
    Queued,
    Retries,
    Started,
    Step,
    Variant,
    Warning,
)
from argus.errors import (
    DeadlineError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from argus.types import ImageFormat
from argus.v1 import image_pb2
from tests.unit.client.scripted import PNG, STATUS, Scripted, all_ended

FAST = Retries(attempts=3, first_wait_s=0.01, longest_wait_s=0.02)


class Either:
    """Calls a method of one kind of client and collects what it iterates over."""

    def __init__(self, kind: type[AsyncClient] | type[Client]) -> None:
        self.kind = kind

    async def __call__(self, server: str, method: str, *args: Any, **options: Any) -> Any:
        if self.kind is AsyncClient:
            async with AsyncClient(server, retries=FAST) as client:
                answer = getattr(client, method)(*args, **options)
                return [e async for e in answer] if inspect.isasyncgen(answer) else await answer
        return await asyncio.to_thread(self._blocking, server, method, *args, **options)

    def _blocking(self, server: str, method: str, *args: Any, **options: Any) -> Any:
        with Client(server, retries=FAST) as client:
            answer = getattr(client, method)(*args, **options)
            return list(answer) if inspect.isgenerator(answer) else answer


@pytest.fixture(params=[AsyncClient, Client], ids=["async", "sync"])
def do(request: pytest.FixtureRequest) -> Either:
    return Either(request.param)


def test_both_clients_are_at_the_top_of_the_package() -> None:
    assert argus.Client is Client
    assert argus.AsyncClient is AsyncClient


def test_errors_are_found_where_they_are_looked_for() -> None:
    raised = {
        name: kind
        for name, kind in vars(argus.errors).items()
        if isinstance(kind, type) and issubclass(kind, argus.errors.ArgusError)
    }
    del raised["ConfigError"], raised["ModelError"]  # of servers, they never leave them
    assert {name: vars(client_module)[name] for name in raised} == raised
    assert raised.keys() <= set(client_module.__all__)
    assert all(name in (client_module.__doc__ or "") for name in raised)


def test_errors_need_no_import_of_their_own() -> None:
    code = "import argus; print(argus.errors.ArgusError.__name__)"
    found = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout == "ArgusError\n"


async def test_an_image_comes_back_with_all_that_is_known_of_it(
    do: Either, scripted: Scripted, tmp_path: Path
) -> None:
    events: list[Event] = []
    result = await do(
        scripted.address, "generate", "a red circle", seed=7, size="32x40", on_event=events.append
    )

    assert result.prompt == "a red circle"
    assert result.request_id == scripted.images.received[0].request_id
    assert (result.width, result.height, result.seed) == (32, 40, 7)
    assert (result.variant, result.level, result.sampler) == ("base", "base", "ddim")
    assert (result.queued_s, result.running_s, result.total_s) == (0.25, 0.5, 0.75)
    assert (result.max_lanes, result.attempts, result.format) == (4, 1, ImageFormat.PNG)
    assert result.image.size == (8, 8)
    result.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == PNG
    with pytest.raises(InvalidArgumentError, match=r"'a.jpg' does not fit an image in png format"):
        result.save(tmp_path / "a.jpg")
    assert not (tmp_path / "a.jpg").exists()
    assert events[-1] == Image(result.request_id, result)


@pytest.mark.parametrize("prompt", ["p", "bundles"])
async def test_events_are_typed_and_in_order_whether_they_come_one_by_one_or_together(
    do: Either, scripted: Scripted, prompt: str
) -> None:
    events = await do(scripted.address, "stream", prompt, steps=2, request_id="r", preview_every=3)
    assert events[:-1] == [
        Queued("r", ahead=1, predicted_s=0.5),
        Started("r", node="node-0", variant="base", level="base", steps=2, attempt=1),
        Warning("r", code="PROMPT_TRUNCATED", message="cut"),
        Step("r", step=1, steps=2, lanes=4),
        Step("r", step=2, steps=2, lanes=4),
        Preview("r", step=3, data=b"jpeg"),
    ]
    assert isinstance(events[-1], Image)


async def test_every_option_reaches_the_server(do: Either, scripted: Scripted) -> None:
    options: dict[str, Any] = {
        "seed": 2**63 - 1,
        "steps": 20,
        "guidance": 4.5,
        "negative_prompt": "blue",
        "sampler": "euler",
        "variant": "base",
        "level": "base-25",
        "deadline_s": 30.0,
        "min_quality": 0.5,
        "request_id": "mine",
        "preview_every": 5,
        "eta": 0.25,
        "guidance_rescale": 0.5,
        "true_guidance": 3.5,
    }
    await do(scripted.address, "generate", "p", size=(32, 64), format="webp", **options)
    (message,) = scripted.images.received
    assert {name: getattr(message, name) for name in options} == options
    assert (message.width, message.height, message.format) == (32, 64, 2)
    timeout_s = scripted.images.timeouts_s[0]
    assert timeout_s is not None
    assert 30 < timeout_s < 32, "gRPC's own deadline leaves a second to the server's"


async def test_an_unknown_option_is_a_type_error(do: Either, scripted: Scripted) -> None:
    with pytest.raises(TypeError, match="stepz"):
        await do(scripted.address, "generate", "p", stepz=3)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"steps": 0}, "steps"),
        ({"seed": -1}, "seed"),
        ({"size": "64"}, "size"),
        ({"size": (64,)}, "size"),
        ({"size": 64}, "size"),
        ({"size": 0}, "size"),
        ({"size": (64.0, 64)}, "size"),
        ({"size": (0, 64)}, "size"),
        ({"size": (64, 2**32)}, "size"),
        ({"size": "64x4294967296"}, "size"),
        ({"seed": True}, "seed"),
        ({"guidance": True}, "guidance"),
        ({"negative_prompt": "a\0b"}, "negative_prompt"),
        ({"format": "gif"}, "format"),
        ({"guidance": float("nan")}, "guidance"),
        ({"request_id": ""}, "request_id"),
        ({"eta": 1.5}, "eta"),
        ({"guidance_rescale": -0.5}, "guidance_rescale"),
        ({"true_guidance": 51}, "true_guidance"),
    ],
)
async def test_bad_input_is_refused_with_the_field_named(
    do: Either, scripted: Scripted, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await do(scripted.address, "generate", "p", **options)
    assert caught.value.field == field


async def test_a_name_that_is_unknown_comes_back_with_those_that_exist(
    do: Either, scripted: Scripted
) -> None:
    with pytest.raises(NotFoundError) as caught:
        await do(scripted.address, "generate", "p", variant="bse")
    assert caught.value.known == ("base", "small")
    assert "did you mean 'base'?" in str(caught.value)
    assert len(scripted.images.received) == 1


async def test_a_retry_keeps_the_request_id_and_waits_as_told(
    do: Either, scripted: Scripted
) -> None:
    scripted.images.failures = [UnavailableError("no node"), OverloadedError("full", 0.3)]
    start_s = asyncio.get_running_loop().time()
    result = await do(scripted.address, "generate", "p", deadline_s=20.0)
    first, second, third = scripted.images.received
    assert first.request_id == second.request_id == third.request_id == result.request_id
    assert asyncio.get_running_loop().time() - start_s >= 0.3
    assert first.deadline_s == 20.0
    assert 19.0 < third.deadline_s <= 19.7


async def test_a_request_that_was_accepted_outlives_more_failures_than_a_new_one(
    do: Either, scripted: Scripted
) -> None:
    scripted.images.loss = UnavailableError("Socket closed")
    scripted.images.failures = [UnavailableError("no node")] * 9
    result = await do(scripted.address, "generate", "p", request_id="mine")
    assert {message.request_id for message in scripted.images.received} == {"mine"}
    assert (len(scripted.images.received), result.request_id) == (11, "mine")


async def test_who_loses_an_accepted_request_is_told_that_repeating_is_safe(
    do: Either, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("argus.client.retries.PATIENCE_S", 0.1)
    scripted.images.loss = UnavailableError("Socket closed")
    scripted.images.failures = [UnavailableError("no node")] * 99
    with pytest.raises(UnavailableError, match="^no node; .* with request_id=mine is safe$"):
        await do(scripted.address, "generate", "p", request_id="mine")


async def test_attempts_are_bounded(do: Either, scripted: Scripted) -> None:
    scripted.images.failures = [UnavailableError("no node is there")] * 9
    with pytest.raises(UnavailableError, match="no node is there"):
        await do(scripted.address, "generate", "p")
    assert len(scripted.images.received) == FAST.attempts


async def test_it_does_not_wait_beyond_the_deadline(do: Either, scripted: Scripted) -> None:
    scripted.images.failures = [OverloadedError("full", 30.0)]
    with pytest.raises(OverloadedError):
        await asyncio.wait_for(do(scripted.address, "generate", "p", deadline_s=5.0), 2)


async def test_the_deadline_cuts_a_call_that_hangs(
    do: Either, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("argus.client.retries.DEADLINE_SLACK_S", 0.1)
    with pytest.raises(DeadlineError):
        await do(scripted.address, "generate", "slow", deadline_s=0.2)
    await asyncio.wait_for(scripted.images.cancelled.wait(), 5)


async def test_nobody_there_is_told_in_plain_words(do: Either) -> None:
    with pytest.raises(UnavailableError) as caught:
        await do("127.0.0.1:1", "generate", "p")
    assert "cannot reach 127.0.0.1:1: " in str(caught.value)
    assert "refused" in str(caught.value)


async def test_a_stream_without_an_image_is_an_error(do: Either, scripted: Scripted) -> None:
    with pytest.raises(InternalError, match="without an image"):
        await do(scripted.address, "generate", "nothing")


async def test_variants_and_status(do: Either, scripted: Scripted) -> None:
    scripted.images.failures = [UnavailableError("starting")]
    (variant,) = await do(scripted.address, "variants")
    assert isinstance(variant, Variant)
    assert variant.name == "base"
    assert variant.info.samplers == ("ddim", "euler")
    assert variant.levels == ("base", "base-25")
    assert variant.nodes == ("node-0",)
    assert await do(scripted.address, "status") == STATUS


async def test_draining_a_node(do: Either, scripted: Scripted) -> None:
    await do(scripted.address, "drain", "node-0")
    assert scripted.admin.drained == ["node-0"]
    with pytest.raises(NotFoundError, match="known: node-0"):
        await do(scripted.address, "drain", "node-9")


async def test_map_keeps_the_order_of_the_prompts(do: Either, scripted: Scripted) -> None:
    prompts = ["wait 0.3", "wait 0.0", "wait 0.1", "wait 0.0"]
    results = await do(scripted.address, "map", prompts, concurrency=2, seed=1, request_id="m")
    assert [r.prompt for r in results] == prompts
    assert [r.request_id for r in results] == ["m-0", "m-1", "m-2", "m-3"]
    assert scripted.images.most_running == 2


async def test_each_prompt_of_a_map_can_have_options_of_its_own(
    do: Either, scripted: Scripted
) -> None:
    events: list[Event] = []
    results = await do(
        *(scripted.address, "map", ["p"] * 3),
        each=lambda position: {"seed": 7 + position, "request_id": f"id-{position}"},
        on_event=events.append,
        seed=1,
        steps=2,
    )
    assert [(r.seed, r.steps, r.request_id) for r in results] == [
        (7, 2, "id-0"),
        (8, 2, "id-1"),
        (9, 2, "id-2"),
    ]
    images = [event.request_id for event in events if isinstance(event, Image)]
    assert sorted(images) == ["id-0", "id-1", "id-2"]


async def test_the_seed_of_a_map_is_that_of_every_image(do: Either, scripted: Scripted) -> None:
    results = await do(scripted.address, "map", ["p", "q"], seed=3)
    assert [r.seed for r in results] == [3, 3]


async def test_images_count_seeds_and_ids_up_from_those_given(
    do: Either, scripted: Scripted
) -> None:
    options: dict[str, Any] = {"seed": 7, "request_id": "r", "steps": 2}
    results = await do(scripted.address, "images", "wait 0.05", 12, **options)
    assert [(r.seed, r.request_id) for r in results] == [(7 + i, f"r-{i + 1}") for i in range(12)]
    assert scripted.images.most_running == 8
    sent = {message.request_id: message for message in scripted.images.received}
    for position in (0, 11):
        alone = await do(scripted.address, "generate", "wait 0.05", steps=2, seed=7 + position)
        message = image_pb2.GenerateRequest.FromString(
            scripted.images.received[-1].SerializeToString()
        )
        message.request_id = f"r-{position + 1}"
        assert message == sent[f"r-{position + 1}"], "the same request but for its id"
        assert alone.seed == results[position].seed


async def test_images_come_in_order_whatever_is_done_first(do: Either, scripted: Scripted) -> None:
    scripted.images.failures = [UnavailableError("the first comes last")]
    results = await do(scripted.address, "images", "p", 3, seed=1)
    assert [r.seed for r in results] == [1, 2, 3]


async def test_images_without_a_seed_count_up_from_one_that_their_id_decides(
    do: Either, scripted: Scripted
) -> None:
    for request_id in ("mine", "mine", "yours"):
        await do(scripted.address, "images", "p", 2, request_id=request_id)
    asked = {message.request_id: message.seed for message in scripted.images.received}
    assert set(asked) == {"mine-1", "mine-2", "yours-1", "yours-2"}
    assert asked["mine-2"] == asked["mine-1"] + 1
    assert asked["yours-2"] == asked["yours-1"] + 1
    assert asked["mine-1"] != asked["yours-1"]
    seeds = [m.seed for m in scripted.images.received if m.request_id == "mine-1"]
    assert len(seeds) == 2
    assert len(set(seeds)) == 1


async def test_one_image_has_the_request_id_as_it_is(do: Either, scripted: Scripted) -> None:
    (result,) = await do(scripted.address, "images", "p", 1, request_id="mine", seed=2**63 - 1)
    assert result.request_id == "mine"


@pytest.mark.parametrize(
    ("n", "options", "field"),
    [
        (0, {}, "n"),
        (True, {}, "n"),
        (2.0, {}, "n"),
        (2, {"seed": 2**63 - 1}, "seed"),
        (2, {"seed": -1}, "seed"),
        (10, {"request_id": "x" * 127}, "request_id"),
        (2, {"request_id": ""}, "request_id"),
    ],
)
async def test_images_that_could_not_all_be_made_are_refused_before_the_first(
    do: Either, scripted: Scripted, n: Any, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await do(scripted.address, "images", "p", n, **options)
    assert caught.value.field == field
    assert scripted.images.received == []


async def test_the_first_failure_cancels_all_images_at_once(do: Either, scripted: Scripted) -> None:
    scripted.images.failures = [NotFoundError("variant", "x", [])]
    with pytest.raises(NotFoundError):
        await asyncio.wait_for(do(scripted.address, "images", "slow", 3), 5)
    await all_ended(scripted)


async def test_a_lost_image_names_the_id_that_repeats_all(
    do: Either, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("argus.client.retries.PATIENCE_S", 0.1)
    scripted.images.loss = UnavailableError("Socket closed")
    scripted.images.failures = [UnavailableError("no node")] * 99
    with pytest.raises(UnavailableError, match="with request_id=r is safe$"):
        await do(scripted.address, "images", "p", 1, request_id="r")
    scripted.images.loss = UnavailableError("Socket closed")
    with pytest.raises(UnavailableError, match="with request_id=r is safe$"):
        await do(scripted.address, "images", "p", 2, request_id="r", concurrency=1)


async def test_map_can_yield_what_is_done_first(do: Either, scripted: Scripted) -> None:
    prompts = ["wait 0.5", "wait 0.0", "wait 0.1"]
    results = await do(scripted.address, "map", prompts, concurrency=3, ordered=False)
    assert [r.prompt for r in results] == ["wait 0.0", "wait 0.1", "wait 0.5"]


async def test_map_stops_at_the_first_failure_and_cancels_the_rest(
    do: Either, scripted: Scripted
) -> None:
    with pytest.raises(InvalidArgumentError):
        await asyncio.wait_for(do(scripted.address, "map", ["", "slow"], concurrency=2), 5)
    await all_ended(scripted)


@pytest.mark.parametrize("ordered", [True, False])
async def test_map_can_yield_failures_and_lose_nothing(
    do: Either, scripted: Scripted, ordered: bool
) -> None:
    prompts = ["a", "", "c", "x" * 4001, "e"]
    options = {"concurrency": 2, "ordered": ordered, "errors": "yield"}
    results = await do(scripted.address, "map", prompts, **options)
    failures = {r.position: r for r in results if isinstance(r, Failure)}
    assert sorted(r.prompt for r in results if not isinstance(r, Failure)) == ["a", "c", "e"]
    assert sorted(failures) == [1, 3]
    for position, failure in failures.items():
        assert failure.prompt == prompts[position]
        assert isinstance(failure.error, InvalidArgumentError)
        assert failure.error.field == "prompt"
    if ordered:
        assert [r.prompt for r in results] == prompts


async def test_map_does_not_guess_what_to_do_with_errors(do: Either, scripted: Scripted) -> None:
    with pytest.raises(ValueError, match="'raise' or 'yield'"):
        await do(scripted.address, "map", ["p"], errors="ignore")


async def test_map_shows_a_bar_on_a_terminal(
    do: Either,
    scripted: Scripted,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await do(scripted.address, "map", ["a"], progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich take stderr for a terminal
    await do(scripted.address, "map", ["a", "", "c"], errors="yield", progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "3/3" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.err)
    assert "1 failed" in shown.err


async def test_map_needs_room_for_one(do: Either, scripted: Scripted) -> None:
    with pytest.raises(ValueError, match="concurrency"):
        await do(scripted.address, "map", ["p"], concurrency=0)


async def test_one_blocking_client_serves_many_threads(scripted: Scripted) -> None:
    def many() -> list[int]:
        barrier = threading.Barrier(8)

        def one(seed: int) -> int:
            barrier.wait(10)
            return client.generate("wait 0.05", seed=seed).seed

        with Client(scripted.address) as client, ThreadPoolExecutor(8) as pool:
            return list(pool.map(one, range(8)))

    assert await asyncio.to_thread(many) == list(range(8))
    assert scripted.images.most_running > 1


async def test_prompts_of_a_map_are_read_as_needed(scripted: Scripted) -> None:
    taken: list[int] = []

    def endless() -> Any:
        for i in range(10**9):
            taken.append(i)
            yield "p"

    async with (
        AsyncClient(scripted.address) as client,
        aclosing(client.map(endless(), concurrency=3)) as results,
    ):
        await anext(results)
    assert len(taken) == 3
