"""An HTTP request goes on with its caller's trace, and what is asked for it goes on with it."""

from __future__ import annotations

import pytest

from tests.unit.coordinator.scripted import ScriptedNode
from tests.unit.tracing.kept import ANOTHER, Kept, id_of, parent_of

from .running import served


@pytest.mark.parametrize("stream", [False, True])
async def test_pictures_of_one_request_are_in_its_callers_trace(stream: bool) -> None:
    kept = Kept()
    async with served(ScriptedNode(), tracer=kept.tracer) as here:
        body = {"prompt": "a heliotrope", "n": 2, "steps": 2, "stream": stream}
        answer = await here.ask(body, traceparent=ANOTHER)
        assert answer.status_code == 200, answer.text
        await here.http.get("/v1/models")
    http, clients = kept.spans["argus.http"], [s for s in kept.every if s.name == "argus.client"]
    assert format(http.context.trace_id, "032x") == ANOTHER.split("-")[1]
    assert format(parent_of(http), "016x") == ANOTHER.split("-")[2]
    assert [parent_of(span) for span in clients] == [id_of(http)] * 2
    assert kept.attributes("argus.http")["argus.http_status"] == 200
    assert len(kept.every) == 3, "only pictures are traced"


async def test_a_refused_request_has_its_status_and_no_words() -> None:
    kept = Kept()
    async with served(tracer=kept.tracer) as here:
        answer = await here.ask({"prompt": "a heliotrope", "size": "huge"})
    assert kept.attributes("argus.http") == {"argus.http_status": answer.status_code}
    assert not any("heliotrope" in span.to_json() for span in kept.every)


async def test_an_odd_traceparent_is_left_alone() -> None:
    kept = Kept()
    async with served(ScriptedNode(), tracer=kept.tracer) as here:
        answer = await here.ask({"prompt": "p", "steps": 1}, traceparent="x" * 3000)
    assert answer.status_code == 200
    assert kept.spans["argus.http"].parent is None
