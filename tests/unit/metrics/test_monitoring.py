"""The dashboard and the alerts speak of metrics that exist, in expressions that parse."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client import Metric

from argus.clock import ManualClock
from argus.config import CacheConfig, CoordinatorConfig, QualityConfig
from argus.coordinator.leadership import Leadership
from argus.coordinator.service import Coordinator
from argus.gateway.making import Room as Places
from argus.gateway.metrics import GatewayMetrics
from argus.metrics.nodes import NodeMoment, node_families
from argus.v1 import cluster_pb2
from tests.unit.coordinator.seats import LEASE_S, Room, ScriptedSeat

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
PAGE = ROOT / "docs" / "metrics.md"
SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}
OF_PROMETHEUS = {"job", "instance", "le"}
UP = "up"
"""Whether a target could be scraped, as Prometheus itself says."""
OF_THE_CLIENT = "process_"
"""Metrics of the process, by the client library, which only shows those that the system has."""


def families_of_a_node() -> Iterator[Metric]:
    spread = cluster_pb2.Spread(bounds=[1.0], counts=[1, 0], sum=0.5)
    beat = cluster_pb2.Heartbeat(
        resident=["v"],
        cache=[cluster_pb2.CacheTier(tier="memory")],
        step_times=[cluster_pb2.StepTimes(variant="v", seconds=spread, lanes_total=2)],
        decode_times=spread,
        encode_times=spread,
    )
    yield from node_families([NodeMoment("n", 4, 8, beat)])


async def all_families() -> list[Metric]:
    """Return what coordinator, nodes and gateway can show, each with its labels."""
    watched = QualityConfig(shadow_share=0.5)
    clock = ManualClock()
    leadership = Leadership(clock, ScriptedSeat(Room(clock)), LEASE_S)
    coordinator = Coordinator(
        CoordinatorConfig(), clock, CacheConfig(), watched, leadership=leadership
    )
    shown = {f.name: f async for f in coordinator.metrics.families()}
    shown |= {f.name: f for f in families_of_a_node()}
    gateway = GatewayMetrics(Places(4, ManualClock()))
    gateway.requests.labels("/", "GET", "200").inc()
    gateway.seconds.labels("/").observe(1.0)
    gateway.gone.labels("/").inc()
    gateway.bytes.labels("/").inc()
    shown |= {f.name: f for f in gateway.registry.collect()}
    return list(shown.values())


async def known_names() -> dict[str, set[str]]:
    """Return the labels of every series there can be."""
    names: dict[str, set[str]] = {}
    for family in await all_families():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        for suffix in SUFFIXES[family.type]:
            names[family.name + suffix] = labels
    names["argus_images_total"] = {"level", "variant"}  # without nodes there are no levels yet
    names["argus_cache_fetch_seconds"] = {"tier", "quantile"}  # nor has anything been fetched
    names["argus_quality_level_residual_ratio"] = {"level"}  # nor compared
    for node in ("backlog_seconds", "heartbeat_age_seconds", "assigned_rows"):
        names[f"argus_node_{node}"] = {"node"}
    return names


def rules() -> list[dict[str, Any]]:
    data = yaml.safe_load(ALERTS.read_text())
    return [rule for group in data["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return data


def expressions() -> list[str]:
    charted = [t["expr"] for panel in dashboard()["panels"] for t in panel.get("targets", ())]
    return [rule["expr"] for rule in rules()] + charted


def selectors(node: object) -> Iterator[Any]:
    """Iterate over the series that an expression asks for."""
    if isinstance(node, promql.MatrixSelector):
        yield node.vector_selector
    elif isinstance(node, promql.VectorSelector):
        yield node
    elif isinstance(node, promql.Call):
        for argument in node.args:
            yield from selectors(argument)
    elif isinstance(node, promql.BinaryExpr):
        yield from selectors(node.lhs)
        yield from selectors(node.rhs)
    elif isinstance(node, promql.AggregateExpr | promql.ParenExpr | promql.UnaryExpr):
        yield from selectors(node.expr)
    else:
        assert isinstance(node, promql.NumberLiteral | promql.StringLiteral), node


def groupings(node: object) -> Iterator[tuple[list[str], object]]:
    """Iterate over the labels that aggregations keep, with what they aggregate."""
    if isinstance(node, promql.AggregateExpr):
        if node.modifier is not None:
            yield list(node.modifier.labels), node.expr
        yield from groupings(node.expr)
    elif isinstance(node, promql.Call):
        for argument in node.args:
            yield from groupings(argument)
    elif isinstance(node, promql.BinaryExpr):
        yield from groupings(node.lhs)
        yield from groupings(node.rhs)
    elif isinstance(node, promql.ParenExpr):
        yield from groupings(node.expr)


async def test_every_series_and_label_asked_for_exists() -> None:
    known = await known_names()
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    seen = set()
    for expression in expressions():
        tree = promql.parse(expression.replace("$__rate_interval", "5m"))
        for selector in selectors(tree):
            seen.add(selector.name)
            if selector.name in recorded | {UP} or selector.name.startswith(OF_THE_CLIENT):
                continue
            assert selector.name in known, expression
            asked = {matcher.name for matcher in selector.matchers.matchers}
            assert asked <= known[selector.name] | OF_PROMETHEUS, expression
        for labels, inner in groupings(tree):
            for selector in selectors(inner):
                assert set(labels) <= known[selector.name] | OF_PROMETHEUS, expression
    assert len(seen) > 40


async def test_the_check_would_notice_a_wrong_name() -> None:
    known = await known_names()
    (selector,) = selectors(promql.parse("sum(rate(argus_request_on_time_total[5m]))"))
    assert selector.name not in known
    assert "argus_requests_on_time_total" in known


async def test_names_and_units_are_as_prometheus_wants_them() -> None:
    for family in await all_families():
        assert re.fullmatch(r"(argus|process)_[a-z0-9_]*[a-z0-9]", family.name)
        assert family.documentation.endswith(".")
        assert not family.name.endswith(("_total", "_sum", "_count", "_bucket", "_s", "_ms"))
        if family.type == "histogram":
            assert family.name.endswith(("_seconds", "_ratio")), family.name


async def test_the_page_lists_every_metric_and_no_other() -> None:
    listed = set(re.findall(r"^\| `(argus_[a-z_]+)`", PAGE.read_text(), re.M))
    shown = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in await all_families()
        if not family.name.startswith(OF_THE_CLIENT)
    }
    assert listed == shown


def test_alerts_say_what_is_wrong_and_how_bad() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    names = [alert["alert"] for alert in alerts]
    assert len(names) == len(set(names))
    for alert in alerts:
        assert alert["labels"]["severity"] in {"warning", "critical"}
        assert set(alert["annotations"]) == {"summary", "description"}
        for label in re.findall(r"\$labels\.(\w+)", str(alert["annotations"])):
            assert label in {"node", "tier"}


def test_panels_do_not_overlap_and_ask_for_something() -> None:
    data = dashboard()
    ids = [panel["id"] for panel in data["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in data["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["targets"], panel["title"]
            assert all(t["datasource"]["uid"] == "${datasource}" for t in panel["targets"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_the_rules() -> None:
    said = subprocess.run(
        ["promtool", "check", "rules", ALERTS], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
