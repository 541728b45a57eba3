"""A moment of the cluster as people read it."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from argus.cli.top_moment import Moment, cache_bytes, parked, resident
from argus.doctor.findings import size
from argus.v1 import admin_pb2

BAR_CELLS = 8
FULL, EMPTY = "█", "░"
LATE_SHARE = 0.95
"""On-time shares below are shown in red."""
OLD_BEAT_S = 2.0


def view(moment: Moment) -> RenderableType:
    """Return the whole picture: figures, nodes, levels."""
    gap = Text()
    parts: list[RenderableType] = [
        *(*_figures(moment), gap, _nodes(moment), gap, _levels(moment)),
    ]
    if moment.error:
        parts.insert(1, Text(f"last seen {moment.at:%H:%M:%S} UTC: {moment.error}", style="red"))
    return Group(*parts)


def _figures(moment: Moment) -> list[Text]:
    status, sample = moment.status, moment.sample
    title = Text(f"argus {status.argus_version}", style="bold")
    title.append(f" at {moment.server}, up {_span(status.uptime_s)}", style="")
    title.append(f"   {moment.at:%H:%M:%S} UTC", style="dim")
    queue = Text(
        f"requests {status.in_flight} of {status.capacity} in flight, {status.queued} queued; "
        f"{sample.offered_s:.3g}/s offered, {sample.answered_s:.3g}/s answered"
    )
    late = sample.on_time is not None and sample.on_time < LATE_SHARE
    served = Text("on time ")
    served.append(_share(sample.on_time), style="red" if late else "")
    served.append(f" ({sample.on_time_s:.3g}/s), quality ")
    served.append("-" if sample.quality is None else f"{sample.quality:.3f}")
    return [title, queue, served, *_policy(status), *_cache(moment), *_alarms(status)]


def _policy(status: admin_pb2.GetStatusResponse) -> list[Text]:
    policy = status.policy
    if not policy.HasField("price"):
        return [Text(f"policy {policy.name}")] if policy.name else []
    plan = f", plan {_span(policy.plan_age_s)} old" if policy.HasField("plan_age_s") else ""
    return [
        Text(
            f"policy {policy.name}: price {policy.price:.3g}, load {policy.load:.0%}, "
            f"{policy.arrivals_per_s:.3g}/s expected{plan}"
        )
    ]


def _cache(moment: Moment) -> list[Text]:
    if not moment.status.HasField("cache"):
        return [Text("cache off")]
    near = _share(moment.near / moment.lookups if moment.lookups else None)
    cache = moment.status.cache
    held = size(cache_bytes(moment.status))
    return [Text(f"cache {cache.entries} entries, {held} on nodes; {near} of look-ups near")]


def _alarms(status: admin_pb2.GetStatusResponse) -> list[Text]:
    if not status.HasField("quality"):
        return []
    return [
        Text(
            f"ALARM {alarm.level or 'all levels'}: pictures are "
            f"{'worse' if alarm.worse else 'better'} than predicted ({alarm.residual:+.3f})",
            style="red",
        )
        for alarm in status.quality.alarms
    ]


def _nodes(moment: Moment) -> RenderableType:
    if not moment.status.nodes:
        return Text("no node", style="red")
    table = _table("node", "device", "", "lanes", "rows", "waiting", "backlog", "resident")
    for node in moment.status.nodes:
        hello, beat = node.hello, node.heartbeat
        silent = node.heartbeat_age_s > OLD_BEAT_S
        state = "draining" if node.draining else "silent" if silent else "serving"
        away = parked(node)
        more = f" (parked {', '.join(away)})" if away else ""
        table.add_row(
            hello.node,
            hello.device,
            Text(state, style="" if state == "serving" else "yellow"),
            f"{_bar(beat.lanes, hello.max_lanes)} {beat.lanes}/{hello.max_lanes}",
            f"{beat.rows}/{hello.slots}",
            str(beat.waiting),
            f"{node.backlog_s:.1f} s",
            f"{', '.join(resident(node))}{more}",
        )
    return table


def _levels(moment: Moment) -> RenderableType:
    """Return the levels in use; those never used are summed up in the last line."""
    used = [level for level in moment.status.levels if level.answered]
    total = sum(moment.answered_s.values())
    table = _table("level", "variant", "quality", "now", "images/s", "images")
    for level in used:
        rate = moment.answered_s[level.name]
        share = rate / total if total else 0.0
        table.add_row(
            level.name,
            level.variant,
            f"{level.quality:.3f}",
            f"{_bar(share, 1.0)} {share:4.0%}",
            f"{rate:.3g}",
            str(level.answered),
        )
    unused = len(moment.status.levels) - len(used)
    note = Text(f"{unused} levels not used yet", style="dim")
    if not used:
        return note
    return Group(table, note) if unused else table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _bar(part: float, whole: float) -> str:
    filled = round(BAR_CELLS * min(1.0, part / whole)) if whole else 0
    return FULL * filled + EMPTY * (BAR_CELLS - filled)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _span(seconds: float) -> str:
    """Return a span of time in its two largest units."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
