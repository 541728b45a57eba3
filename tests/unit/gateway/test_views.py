"""Models, health, state, metrics, pages."""

from __future__ import annotations

import asyncio
import json
import re

import httpx2
import pytest
from openapi_spec_validator import validate
from starlette.datastructures import Headers

import argus.gateway.access as access
from argus.errors import UnauthenticatedError
from argus.gateway.openapi import document
from argus.gateway.pages import TYPES
from argus.gateway.wanted import KNOWN
from argus.v1 import admin_pb2
from tests.unit.coordinator.scripted import ScriptedNode

from .running import PATH, gateway_at, served


async def test_models_are_listed_and_described() -> None:
    async with served(ScriptedNode()) as here:
        listed = (await here.http.get("/v1/models")).json()
        one = (await here.http.get("/v1/models/base")).json()
        missing = await here.http.get("/v1/models/bass")
    assert listed["object"] == "list"
    assert listed["data"] == [one]
    assert (one["id"], one["object"], one["owned_by"]) == ("base", "model", "argus")
    assert one["argus"]["samplers"] == ["ddim", "euler"]
    assert missing.status_code == 404
    assert "did you mean 'base'?" in missing.json()["detail"]


async def test_health_tells_the_truth_about_nodes() -> None:
    node = ScriptedNode(hold_at=2)
    async with served() as here:
        answer = await here.http.get("/healthz")
        assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
        async with node.joined(here.behind.address):
            await asyncio.sleep(0.3)
            answer = await here.http.get("/healthz")
            assert (answer.status_code, answer.json()["nodes"]) == (200, ["n1"])
            task = asyncio.create_task(here.ask({"prompt": "x"}))  # keeps the node from leaving
            await asyncio.wait_for(node.reached_hold.wait(), 10)
            await here.behind.admin.DrainNode(admin_pb2.DrainNodeRequest(node="n1"))
            await asyncio.sleep(0.3)
            answer = await here.http.get("/healthz")
            assert (answer.status_code, answer.json()["reason"]) == (503, "no node takes work")
            task.cancel()
        assert (await here.http.get("/livez")).status_code == 200


async def test_health_without_a_coordinator() -> None:
    async with (
        gateway_at("127.0.0.1:1") as (_, url),
        httpx2.AsyncClient(base_url=url, timeout=20) as http,
    ):
        answer = await http.get("/healthz")
        assert answer.status_code == 503
        assert "127.0.0.1:1" in answer.json()["reason"]
        assert (await http.get("/livez")).status_code == 200
        shown = (await http.get("/api/status")).json()
        assert (shown["reachable"], shown["status"]) == (False, None)


async def test_the_state_and_how_it_went() -> None:
    async with served(ScriptedNode()) as here:
        for seed in range(3):
            await here.ask({"prompt": "x", "seed": seed, "deadline": 60})
        async with asyncio.timeout(10):
            while True:
                shown = (await here.http.get("/api/status")).json()
                if sum(sample["answered_s"] > 0 for sample in shown["history"]):
                    break
                await asyncio.sleep(0.05)
        status = shown["status"]
        assert [node["hello"]["node"] for node in status["nodes"]] == ["n1"]
        busy = [sample for sample in shown["history"] if sample["answered_s"] > 0]
        assert all(sample["quality"] == 1.0 for sample in busy)
        assert all(sample["on_time"] == 1.0 for sample in busy)
        async with here.http.stream("GET", "/api/events") as stream:
            lines = stream.aiter_lines()
            seen = []
            async for line in lines:
                if line.startswith("data: "):
                    seen.append(json.loads(line.removeprefix("data: ")))
                if len(seen) == 2:
                    break
        assert seen[0]["history"]
        assert seen[1]["newest"]["age_s"] < 5
        assert "history" not in seen[1]


async def test_requests_are_counted_by_route_and_never_by_a_clients_words() -> None:
    async with served(ScriptedNode()) as here:
        await here.ask({"prompt": "x"})
        await here.ask({"prompt": "x", "n": 0})
        await here.http.get("/v1/models/../../etc/passwd")
        await here.http.get("/v1/models/nobody")
        await here.http.request("BREW", "/v1/models")
        text = (await here.http.get("/metrics")).text
    counted = dict(re.findall(r"^argus_gateway_requests_total\{(.*)\} (.*)$", text, re.M))
    assert counted[f'method="POST",route="{PATH}",status="200"'] == "1.0"
    assert counted[f'method="POST",route="{PATH}",status="400"'] == "1.0"
    assert counted['method="GET",route="/v1/models/{model}",status="404"'] == "1.0"
    assert "passwd" not in text
    assert "nobody" not in text
    assert "BREW" not in text


async def test_pages_may_load_nothing_from_elsewhere_and_be_framed_by_nobody() -> None:
    async with served() as here:
        for name in ("", *TYPES):
            answer = await here.http.get(f"/{name}")
            assert answer.status_code == 200
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            # No address of another origin but the name of SVG's own language.
            found = re.findall(r"https?://[^\s\"']+", answer.text)
            assert set(found) <= {"http://www.w3.org/2000/svg"}, name
        assert (await here.http.get("/service.py")).status_code == 404


async def test_the_openapi_document_is_valid_and_names_every_field() -> None:
    async with served() as here:
        shown = (await here.http.get("/openapi.json")).json()
    validate(shown)
    assert shown == json.loads(json.dumps(document(10)))
    request = shown["components"]["schemas"]["ImagesRequest"]
    assert set(request["properties"]) == set(KNOWN)


async def test_keys_have_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_key(headers: Headers, path: str) -> access.Caller:
        if headers.get("authorization") == "Bearer k":
            return access.Caller("acme")
        raise UnauthenticatedError("a key is needed")

    monkeypatch.setattr(access, "identify", no_key)
    node = ScriptedNode()
    async with served(node) as here:
        refused = await here.ask({"prompt": "x"})
        taken = await here.ask({"prompt": "x"}, Authorization="Bearer k")
    assert (refused.status_code, taken.status_code) == (401, 200)
    assert refused.headers["www-authenticate"] == "Bearer"
    assert [work.tenant for work in node.works] == ["acme"]
