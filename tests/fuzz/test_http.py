"""Requests drawn from the gateway's own OpenAPI document, right and wrong ones, to a real gateway.

What comes back must be what the document says: a status, a content type and a body of its schema;
never a 500. In `make test` a few of each route, in `make fuzz` thousands.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from argus.gateway.openapi import document
from argus.v1 import cluster_pb2
from tests.unit.coordinator.scripted import ScriptedNode, picture
from tests.unit.gateway.running import served

FEW = 10
"""Hypothesis has 100 where nothing else is said, and then `make test` is what runs."""
EXAMPLES = FEW if settings.default.max_examples == 100 else settings.default.max_examples


@schemathesis.check
def no_bug(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """No node and no time are answers, too (503, 504); a bug is none."""
    assert response.status_code != 500


CHECKS = [
    no_bug,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]

SCHEMA = schemathesis.openapi.from_dict(document(10)).exclude(path="/api/events")
"""The events have no end."""


class AtOnce(ScriptedNode):
    """Makes pictures without telling of steps: a request may want a thousand of them."""

    async def _run(self, work: cluster_pb2.Work) -> None:
        self.say(work, started=cluster_pb2.WorkStarted())
        self.say(work, done=cluster_pb2.WorkDone(data=picture(work.seed, work.steps)))
        self.rows.pop((work.request_id, work.attempt), None)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A gateway in a thread of its own: the requests block."""
    loop = asyncio.new_event_loop()
    found: list[str] = []
    ready, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with served(AtOnce(slots=64)) as here:
            found.append(here.url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(30)
    yield found[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)
    loop.close()


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=EXAMPLES == FEW,
)
def test_the_gateway_does_what_its_document_says(case: schemathesis.Case, url: str) -> None:
    case.call_and_validate(base_url=url, checks=CHECKS, timeout=20)
