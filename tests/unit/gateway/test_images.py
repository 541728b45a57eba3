"""POST /v1/images/generations before a real coordinator."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import httpx2
import pytest

from tests.unit.coordinator.bench import SLOW_COSTS
from tests.unit.coordinator.scripted import ScriptedNode, picture

from .running import PATH, Served, gateway_at, served

PROMPT = {"prompt": "a red circle"}


def problem_of(answer: httpx2.Response, status: int) -> dict[str, Any]:
    """Return the body of a refusal, which must be a problem and what OpenAI's clients read."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["type"].endswith(body["code"])
    assert body["error"]["message"] == body["detail"]
    return body


async def test_pictures_come_as_base64_in_the_order_of_their_seeds() -> None:
    async with served(ScriptedNode()) as here:
        body = {**PROMPT, "n": 3, "seed": 40, "steps": 4, "user": "u-1", "quality": "auto"}
        answer = await here.ask(body)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert [base64.b64decode(one["b64_json"]) for one in said["data"]] == [
        picture(seed, 4) for seed in (40, 41, 42)
    ]
    assert [one["argus"]["seed"] for one in said["data"]] == [40, 41, 42]
    assert said["size"] == "64x64"
    assert said["output_format"] == "png"
    assert answer.headers["x-request-id"] in said["data"][0]["argus"]["request_id"]


async def test_whole_numbers_may_have_a_point() -> None:
    async with served(ScriptedNode()) as here:
        headers = {"Content-Type": "application/json"}
        body = b'{"prompt": "x", "steps": 4.0, "seed": 7.0, "n": 1e0, "guidance": 2.0}'
        answer = await here.http.post(PATH, content=body, headers=headers)
    assert base64.b64decode(answer.json()["data"][0]["b64_json"]) == picture(7, 4)


async def test_null_is_as_if_it_were_not_there() -> None:
    async with served(ScriptedNode()) as here:
        answer = await here.ask({**PROMPT, "seed": None, "size": None, "model": None, "n": None})
        seed = answer.json()["data"][0]["argus"]["seed"]
    assert 0 <= seed < 2**32  # JavaScript reads it


@pytest.mark.parametrize(
    ("accept", "body", "media_type"),
    [
        ("image/png", {}, "image/png"),
        ("image/*", {"output_format": "webp"}, "image/webp"),
        ("image/jpeg, application/json;q=0.5", {}, "image/jpeg"),
        ("application/json;q=0.2, image/webp;q=0.9", {}, "image/webp"),
    ],
)
async def test_the_picture_itself_is_sent_to_whom_accepts_pictures(
    accept: str, body: dict[str, Any], media_type: str
) -> None:
    node = ScriptedNode()
    async with served(node) as here:
        answer = await here.ask({**PROMPT, "seed": 7, **body}, accept=accept)
    assert answer.content == picture(7, 10)
    assert answer.headers["content-type"] == media_type
    assert (answer.headers["argus-seed"], answer.headers["argus-level"]) == ("7", "base-reference")
    assert node.works[0].format == {"image/png": 1, "image/webp": 2, "image/jpeg": 3}[media_type]


async def test_what_was_asked_for_reaches_the_node() -> None:
    node = ScriptedNode()
    fields = {
        "negative_prompt": "blue",
        "steps": 6,
        "guidance": 2.5,
        "sampler": "euler",
        "size": "72x64",
        "model": "base",
        "output_format": "jpeg",
        "seed": 2**63 - 1,
    }
    async with served(node) as here:
        answer = await here.ask({**PROMPT, **fields, "level": "base-reference", "deadline": 30})
    assert answer.status_code == 200, answer.text
    work = node.works[0]
    assert (work.negative_prompt, work.steps, work.guidance) == ("blue", 6, 2.5)
    assert (work.sampler, work.width, work.height) == ("euler", 72, 64)
    assert (work.seed, work.format, work.level) == (2**63 - 1, 3, "base-reference")
    assert 0 < work.deadline_s <= 30


async def test_a_stream_tells_of_progress_and_ends_with_the_picture() -> None:
    async with served(ScriptedNode()) as here:
        events = await here.events({**PROMPT, "seed": 7, "steps": 3, "progress": True})
        plain = await here.events({**PROMPT, "seed": 7, "steps": 3})
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["argus.queued", "argus.started"]
    assert kinds[-1] == "image_generation.completed"
    assert [e["step"] for e in events if e["type"] == "argus.step"] == [1, 2, 3]
    assert base64.b64decode(events[-1]["b64_json"]) == picture(7, 3)
    assert [event["type"] for event in plain] == ["image_generation.completed"]


async def test_a_stream_of_several_pictures_tells_which_is_which() -> None:
    async with served(ScriptedNode()) as here:
        events = await here.events({**PROMPT, "n": 3, "seed": 1, "request_id": "abc"})
    made = {event["request_id"]: event["argus"]["seed"] for event in events}
    assert made == {"abc-1": 1, "abc-2": 2, "abc-3": 3}


async def test_what_is_refused_at_once_has_its_own_status_in_a_stream_too() -> None:
    async with served(ScriptedNode()) as here:
        answer = await here.ask({**PROMPT, "stream": True, "model": "nope"})
        body = problem_of(answer, 404)
    assert body["error"]["param"] == "model"
    assert body["error"]["code"] == "model_not_found"


async def test_what_fails_later_ends_a_stream_with_an_error() -> None:
    node = ScriptedNode(hold_at=2)
    async with served(node) as here:
        asked = asyncio.create_task(here.ask({**PROMPT, "stream": True, "deadline": 1.5}))
        answer = await asked
    assert answer.status_code == 200
    assert "event: error" in answer.text
    assert '"code":"deadline_exceeded"' in answer.text


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"prompt": None}, "prompt"),
    ({"prompt": " "}, "prompt"),
    ({"prompt": 3}, "prompt"),
    ({"prompt": "x" * 4001}, "prompt"),
    ({"prompt": "a\0b"}, "prompt"),
    ({"n": 0}, "n"),
    ({"n": 11}, "n"),
    ({"n": "2"}, "n"),
    ({"n": True}, "n"),
    ({"size": "63x64"}, "size"),
    ({"size": "64"}, "size"),
    ({"size": 64}, "size"),
    ({"size": "0x64"}, "size"),
    ({"size": "4096x64"}, "size"),
    ({"seed": -1}, "seed"),
    ({"seed": 2**63}, "seed"),
    ({"seed": 2**63 - 1, "n": 2}, "seed"),
    ({"seed": 1.5}, "seed"),
    ({"steps": 0}, "steps"),
    ({"steps": 1001}, "steps"),
    ({"steps": "many"}, "steps"),
    ({"guidance": -1}, "guidance"),
    ({"guidance": 50.5}, "guidance"),
    ({"guidance": "much"}, "guidance"),
    ({"deadline": 0}, "deadline"),
    ({"deadline": 1e9}, "deadline"),
    ({"min_quality": 1.5}, "min_quality"),
    ({"sampler": "magic"}, "sampler"),
    ({"sampler": 3}, "sampler"),
    ({"level": "nope"}, "level"),
    ({"model": "nope"}, "model"),
    ({"model": []}, "model"),
    ({"negative_prompt": "x" * 4001}, "negative_prompt"),
    ({"output_format": "gif"}, "output_format"),
    ({"output_format": 1}, "output_format"),
    ({"response_format": "url"}, "response_format"),
    ({"background": "transparent"}, "background"),
    ({"quality": "hd"}, "quality"),
    ({"moderation": "low"}, "moderation"),
    ({"output_compression": 50}, "output_compression"),
    ({"stream": "yes"}, "stream"),
    ({"partial_images": 1}, "partial_images"),
    ({"partial_images": 4, "stream": True}, "partial_images"),
    ({"progress": True}, "progress"),
    ({"eta": 2}, "eta"),
    ({"eta": 0.5, "sampler": "ddim"}, "eta"),
    ({"guidance_rescale": -1}, "guidance_rescale"),
    ({"true_guidance": 51}, "true_guidance"),
    ({"request_id": "no spaces"}, "request_id"),
    ({"request_id": 5}, "request_id"),
    ({"user": 5}, "user"),
    ({"promt": "x"}, "promt"),
    ({"style": "vivid"}, "style"),
    ({"tenant": "other"}, "tenant"),
]


async def test_every_bad_field_is_named() -> None:
    async with served(ScriptedNode()) as here:
        for change, field in BAD_FIELDS:
            answer = await here.ask({**PROMPT, **change})
            status = 404 if change in ({"model": "nope"}, {"level": "nope"}) else 400
            body = problem_of(answer, status)
            assert body["errors"][0]["field"] == field, (change, body)
            assert body["error"]["param"] == field
            assert body["detail"].startswith(f"{field}: ")
        (await here.ask(PROMPT)).raise_for_status()
        assert (await here.behind.status()).counters.accepted == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"prompt"',
        b'{"prompt": "a", "prompt": "b"}',
        b'{"prompt": "a", "guidance": NaN}',
        b'{"prompt": "\xff"}',
        b'{"seed": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    async with served() as here:
        headers = {"Content-Type": "application/json"}
        answer = await here.http.post(PATH, content=body, headers=headers)
        assert problem_of(answer, 400)["error"]["param"] == "body"


async def test_lone_surrogates_are_refused() -> None:
    async with served() as here:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        answer = await here.http.post(PATH, content=b'{"prompt": "\\ud800"}', headers=headers)
        assert problem_of(answer, 400)["error"]["param"] == "prompt"


async def test_pages_of_other_origins_cannot_send_requests() -> None:
    async with served() as here:
        for media_type in ("text/plain", "application/x-www-form-urlencoded", ""):
            headers = {"Content-Type": media_type} if media_type else {}
            answer = await here.http.post(PATH, content=b'{"prompt": "a"}', headers=headers)
            problem_of(answer, 415)
        answer = await here.http.options(PATH, headers={"Origin": "http://elsewhere"})
        assert "access-control-allow-origin" not in answer.headers


async def test_large_bodies_are_refused_told_or_not() -> None:
    async with served(max_body_bytes=1000) as here:
        headers = {"Content-Type": "application/json"}
        answer = await here.http.post(PATH, content=b" " * 1001, headers=headers)
        problem_of(answer, 413)

        async def chunks() -> Any:
            for _ in range(20):
                yield b" " * 100

        answer = await here.http.post(PATH, content=chunks(), headers=headers)
        problem_of(answer, 413)


async def test_slow_bodies_are_refused() -> None:
    async with served(body_timeout_s=0.1) as here:
        host, port = here.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            "Content-Length: 10\r\n\r\n{".encode()
        )
        line = await asyncio.wait_for(reader.readline(), 10)
        writer.close()
    assert line.split()[1] == b"408"


async def test_what_cannot_be_answered_as_asked_is_refused() -> None:
    async with served(ScriptedNode()) as here:
        problem_of(await here.ask(PROMPT, accept="text/html"), 406)
        problem_of(await here.ask({**PROMPT, "output_format": "png"}, accept="image/webp"), 406)
        body = problem_of(await here.ask({**PROMPT, "n": 2}, accept="image/png"), 400)
        assert body["error"]["param"] == "n"
        body = problem_of(await here.ask({**PROMPT, "stream": True}, accept="image/png"), 400)
        assert body["error"]["param"] == "stream"
        body = problem_of(await here.ask(PROMPT, accept="text/event-stream"), 400)
        assert body["error"]["param"] == "stream"
        problem_of(await here.http.get(PATH), 405)
        problem_of(await here.http.get("/v1/nothing"), 404)


async def held(here: Served, body: dict[str, Any] | None = None) -> asyncio.Task[Any]:
    """Ask for a picture of a node that does not finish it, and wait until it is being made."""
    task = asyncio.create_task(here.ask(body or PROMPT))
    await asyncio.wait_for(here.nodes[0].reached_hold.wait(), 10)
    return task


async def test_a_full_coordinator_says_when_to_come_back() -> None:
    async with served(ScriptedNode(hold_at=2), behind={"max_in_flight": 1}) as here:
        task = await held(here)
        answer = await here.ask(PROMPT)
        body = problem_of(answer, 429)
        assert body["retry_after_s"] > 0
        assert int(answer.headers["retry-after"]) == -(-body["retry_after_s"] // 1)
        assert int(answer.headers["retry-after-ms"]) >= 1000 * body["retry_after_s"]
        task.cancel()


async def test_a_full_gateway_says_when_to_come_back() -> None:
    async with served(ScriptedNode(hold_at=2), max_in_flight=3) as here:
        task = await held(here, {**PROMPT, "n": 2})
        body = problem_of(await here.ask({**PROMPT, "n": 2}), 429)
        assert body["retry_after_s"] > 0
        problem_of(await here.ask({**PROMPT, "n": 2, "stream": True}), 429)
        assert (await here.behind.status()).counters.refused == 0
        task.cancel()


async def test_a_deadline_that_nobody_could_meet_is_refused() -> None:
    async with served(ScriptedNode(costs=SLOW_COSTS)) as here:
        problem_of(await here.ask({**PROMPT, "deadline": 1}), 504)


async def test_without_nodes_or_coordinator_the_service_is_unavailable() -> None:
    async with served() as here:
        problem_of(await here.ask(PROMPT), 503)
    async with (
        gateway_at("127.0.0.1:1") as (_, url),
        httpx2.AsyncClient(base_url=url, timeout=20) as http,
    ):
        body = problem_of(await http.post(PATH, json=PROMPT), 503)
        assert "127.0.0.1:1" in body["detail"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_frees_its_rows(stream: bool) -> None:
    node = ScriptedNode(hold_at=2)
    async with served(node, behind={"reattach_grace_s": 0.0}) as here:
        task = await held(here, {**PROMPT, "n": 2, "stream": stream})
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(10):
            while (await here.behind.status()).in_flight:  # noqa: ASYNC110 - no event crosses the wire
                await asyncio.sleep(0.02)
        assert (await here.behind.status()).counters.cancelled == 2
        async with asyncio.timeout(10):
            while "in_flight_images 0.0" not in (await metrics(here)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert 'clients_gone_total{route="/v1/images/generations"} 1.0' in await metrics(here)


async def metrics(here: Served) -> str:
    return (await here.http.get("/metrics")).text


async def test_asking_again_with_the_same_key_makes_no_second_picture() -> None:
    node = ScriptedNode()
    async with served(node) as here:
        first = await here.ask({**PROMPT, "n": 2}, Idempotency_Key="k1")
        again = await here.ask({**PROMPT, "n": 2}, Idempotency_Key="k1")
        other = await here.ask({**PROMPT, "steps": 3, "n": 2}, Idempotency_Key="k1")
    assert [one["b64_json"] for one in first.json()["data"]] == [
        one["b64_json"] for one in again.json()["data"]
    ]
    assert len(node.works) == 2
    assert problem_of(other, 400)["error"]["param"] == "request_id"


async def test_stopping_lets_what_is_under_way_end() -> None:
    node = ScriptedNode(step_s=0.05)
    async with served(node) as here:
        task = asyncio.create_task(here.ask(PROMPT))
        await asyncio.wait_for(node.got_work.wait(), 10)
        await here.gateway.stop()
        assert (await task).status_code == 200
        with pytest.raises(httpx2.ConnectError):
            await here.ask(PROMPT)
