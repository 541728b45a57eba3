"""Metrics as Prometheus's own parser reads them."""

from __future__ import annotations

import re
import urllib.request
from asyncio import to_thread

import pytest
from prometheus_client.parser import text_string_to_metric_families

from argus.errors import (
    ConfigError,
    DeadlineError,
    InvalidArgumentError,
    OverloadedError,
    UnavailableError,
)
from argus.histogram import Histogram, Spread
from argus.metrics.exposition import shown_metrics
from argus.metrics.families import histograms
from argus.metrics.nodes import NodeMoment, node_families, spread_of
from argus.v1 import cluster_pb2, image_pb2
from tests.unit.coordinator.bench import SLOW_COSTS
from tests.unit.coordinator.scripted import Coordinated, ScriptedNode, coordinated

Samples = dict[str, float]


async def scraped(here: Coordinated) -> Samples:
    """Return all samples by name and labels, read over HTTP from a port of their own."""
    text = ""
    async with shown_metrics(here.coordinator.metrics, "127.0.0.1:0", "x") as address:
        url = f"http://{address}/metrics"
        text = (await to_thread(lambda: urllib.request.urlopen(url).read())).decode()
    return {
        sample.name
        + "".join(f"{{{k}={v}}}" for k, v in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_requests_are_counted_from_acceptance_to_their_end() -> None:
    async with coordinated() as here:
        before = await scraped(here)
        async with ScriptedNode().joined(here.address):
            for n in range(4):
                await here.generate(f"r{n}", deadline_s=50.0 if n else None)
            with pytest.raises(InvalidArgumentError, match="steps"):
                await here.generate("bad", steps=5000)
            after = await scraped(here)
    assert before["argus_requests_accepted_total"] == 0
    assert before["argus_nodes{state=serving}"] == 0
    assert after["argus_asyncio_tasks"] >= 1
    assert after["argus_requests_accepted_total"] == 4
    assert after["argus_requests_ended_total{outcome=answered}"] == 4
    assert after["argus_requests_on_time_total"] == 4
    assert after["argus_deadlines_total{result=met}"] == 3
    assert after["argus_deadlines_total{result=missed}"] == 0
    assert after["argus_requests_refused_total{cause=bad_field}"] == 1
    assert after["argus_images_total{level=base-reference}{variant=base}"] == 4
    assert after["argus_served_quality_ratio_sum"] == 4
    assert after["argus_served_quality_ratio_count"] == 4
    assert after["argus_request_seconds_count"] == 4
    assert after["argus_requests_in_flight"] == 0
    assert after["argus_nodes{state=serving}"] == 1
    assert after["argus_node_slots{node=n1}"] == 4


async def test_refusals_have_a_cause_and_deadlines_are_missed() -> None:
    async with coordinated(max_in_flight=1) as here:
        with pytest.raises(UnavailableError, match="no node"):
            await here.generate("nobody")
        async with ScriptedNode(hold_at=2).joined(here.address):
            with pytest.raises(DeadlineError):
                await here.generate("late", deadline_s=1.5)
            with pytest.raises(DeadlineError):
                await here.generate("short", deadline_s=0.01)
        async with ScriptedNode("n2", hold_at=2, costs=SLOW_COSTS).joined(here.address):
            running = here.images.Generate(request("first"))
            await running.read()
            with pytest.raises(OverloadedError, match="in flight"):
                await here.generate("second")
            found = await scraped(here)
            running.cancel()
    refused = "argus_requests_refused_total{cause="
    assert found[f"{refused}no_node}}"] == 1
    assert found[f"{refused}deadline_too_short}}"] == 1
    assert found[f"{refused}full}}"] == 1
    assert found["argus_deadlines_total{result=missed}"] == 1
    assert found["argus_requests_in_flight"] == 1


def request(request_id: str) -> object:
    return image_pb2.GenerateRequest(request_id=request_id, prompt="x", seed=1)


def test_histograms_agree_with_counting_by_hand() -> None:
    values = [0.0005, 0.001, 0.0011, 3.0, 99.0]
    bounds = (0.001, 0.01, 10.0)
    counted = Histogram(bounds)
    for value in values:
        counted.observe(value)
    family = histograms("h", "text", ("node",), {("n",): counted.spread()})
    samples = {(s.name, s.labels.get("le")): s.value for s in family.samples}
    for bound in bounds:
        assert samples["h_bucket", str(bound)] == sum(v <= bound for v in values)
    assert samples["h_bucket", "+Inf"] == samples["h_count", None] == len(values)
    assert samples["h_sum", None] == pytest.approx(sum(values))


def test_a_spread_that_makes_no_sense_says_nothing() -> None:
    odd = cluster_pb2.Spread(bounds=[1.0, 2.0], counts=[1], sum=5.0)
    assert spread_of(odd) == Spread((), (0,), 0.0)
    beat = cluster_pb2.Heartbeat(decode_times=odd)
    assert list(node_families([NodeMoment("n", 4, 8, beat)]))


async def test_a_default_port_gives_way_and_a_chosen_one_does_not() -> None:
    async with coordinated() as here:
        source = here.coordinator.metrics
        async with (
            shown_metrics(source, "", "coordinator.metrics") as first,
            shown_metrics(source, "", "coordinator.metrics") as second,
            shown_metrics(source, "off", "coordinator.metrics") as none,
        ):
            assert first != second
            assert none is None
            with pytest.raises(ConfigError, match=re.escape(f"cannot listen on {first}: address")):
                async with shown_metrics(source, str(first), "coordinator.metrics"):
                    pass
