"""What the alert rules say of who leads; the few operators that they use are done here."""

from __future__ import annotations

import operator
from pathlib import Path

import promql_parser as promql
import pytest
import yaml

ALERTS = Path(__file__).parents[3] / "deploy" / "prometheus" / "alerts.yml"
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
LEADING = {"ArgusCoordinatorDown", "ArgusNobodyLeads", "ArgusNobodyStandsBy"}

Labels = dict[str, str]
Vector = list[tuple[Labels, float]]


def evaluate(node: object, scraped: Vector) -> Vector:
    """Return the value of an expression, each series with its labels."""
    if isinstance(node, promql.ParenExpr):
        return evaluate(node.expr, scraped)
    if isinstance(node, promql.VectorSelector):
        if node.name in RECORDED:
            return evaluate(promql.parse(RECORDED[node.name]), scraped)
        assert not node.matchers.matchers, "not done here"
        return [(labels, value) for labels, value in scraped if labels["__name__"] == node.name]
    if isinstance(node, promql.AggregateExpr):
        assert node.modifier is None, "not done here"
        values = [value for _, value in evaluate(node.expr, scraped)]
        total = {"max": max, "count": len}[str(node.op)]
        return [({}, float(total(values)))] if values else []
    assert isinstance(node, promql.BinaryExpr), "not done here"
    left = evaluate(node.lhs, scraped)
    if isinstance(node.rhs, promql.NumberLiteral):
        compare = {"==": operator.eq}[str(node.op)]
        return [(labels, value) for labels, value in left if compare(value, node.rhs.val)]
    right = evaluate(node.rhs, scraped)
    matching = node.modifier.matching if node.modifier else None
    on = matching.labels if matching else None
    there = [key(labels, on) for labels, _ in right]
    if str(node.op) == "or":
        mine = [key(labels, on) for labels, _ in left]
        return left + [x for x in right if key(x[0], on) not in mine]
    wanted = {"and": True, "unless": False}[str(node.op)]
    return [x for x in left if (key(x[0], on) in there) is wanted]


def key(labels: Labels, on: list[str] | None) -> Labels:
    """Return the labels by which two series are matched."""
    names = [name for name in labels if name != "__name__"] if on is None else on
    return {name: labels.get(name, "") for name in names}


def target(instance: str, *, job: str = "coordinators", up: int = 1, **shown: float) -> Vector:
    """Return what is known of a target after a scrape; a failed one leaves nothing else."""
    values = {"up": up} | ({f"argus_{name}": value for name, value in shown.items()} if up else {})
    where = {"job": job, "instance": instance}
    return [({"__name__": name, **where}, value) for name, value in values.items()]


def coordinator(instance: str, leads: int, waiting: int = 0, up: int = 1) -> Vector:
    return target(
        instance,
        up=up,
        build_info=1,
        coordinator_leader=leads,
        coordinator_waiting=waiting,
    )


LEADER, STANDBY = coordinator("a", 1, 1), coordinator("b", 0)
OF_BEFORE = target("a", build_info=1)
"""It leads, or does not: a coordinator of before it could be asked does not say."""


@pytest.mark.parametrize(
    ("scraped", "alerts"),
    [
        (LEADER + STANDBY, set()),
        (coordinator("a", 1) + target("c", job="others", up=0), {"ArgusNobodyStandsBy"}),
        (coordinator("a", 0) + STANDBY, {"ArgusNobodyLeads", "ArgusNobodyStandsBy"}),
        (
            coordinator("a", 0) + STANDBY + target("c", job="others", up=0),
            {"ArgusNobodyLeads", "ArgusNobodyStandsBy"},
        ),
        (OF_BEFORE + STANDBY, set()),
        (target("a", up=0) + STANDBY, {"ArgusCoordinatorDown"}),
        (LEADER + target("b", up=0), {"ArgusCoordinatorDown"}),
        (OF_BEFORE, set()),
        (target("a", up=0), set()),  # ArgusCoordinatorAbsent sees to that.
    ],
)
def test_that_nobody_leads_is_said_only_where_every_coordinator_says_so(
    scraped: Vector, alerts: set[str]
) -> None:
    rules = {rule["alert"]: rule["expr"] for rule in RULES if rule.get("alert") in LEADING}
    fired = {name for name, expr in rules.items() if evaluate(promql.parse(expr), scraped)}
    assert fired == alerts
    assert set(rules) == LEADING
