"""`argus status`: what the cluster is doing."""

from __future__ import annotations

import json as json_module
from textwrap import wrap

import typer

from argus.cli.connect import DEFAULT_SERVER, connect
from argus.cli.settings import JsonFlag, KeyFileFlag, ServerFlag, TlsCaFlag
from argus.rpc.as_json import as_json
from argus.v1 import admin_pb2

WIDTH = 80
"""Columns of the narrowest terminal the text must be readable on."""
LONGEST_NAME = 20
"""Longer names of nodes do not widen the column."""


def status(
    server: ServerFlag = DEFAULT_SERVER,
    tls_ca: TlsCaFlag = None,
    api_key_file: KeyFileFlag = None,
    json: JsonFlag = False,
) -> None:
    """Show nodes, variants, levels and counts."""
    with connect(server, tls_ca, api_key_file) as client:
        answer = client.status()
    if json:
        typer.echo(json_module.dumps(as_json(answer), indent=2, ensure_ascii=False))
        return
    for line in describe(answer):
        typer.echo(line)


def describe(answer: admin_pb2.GetStatusResponse) -> list[str]:
    """Return the state in lines for people, readable on a terminal of 80 columns."""
    return [
        *_summary(answer),
        *_leadership(answer),
        *_policy(answer),
        *_residency(answer),
        *_cache(answer),
        *_quality(answer),
        *_nodes(answer),
        *_levels(answer),
    ]


def _summary(answer: admin_pb2.GetStatusResponse) -> list[str]:
    counts = answer.counters
    state = (
        f"argus {answer.argus_version}, up {answer.uptime_s:.0f} s, {answer.in_flight} of "
        f"{answer.capacity} requests in flight ({answer.queued} queued)"
    )
    since = (
        f"since the start: {counts.accepted} accepted, {counts.answered} answered, "
        f"{counts.on_time} on time, {counts.refused} refused, {counts.cancelled} cancelled, "
        f"{counts.failed} failed, {counts.replayed} replayed"
    )
    return [*_lines(state), *_lines(since)]


def _leadership(answer: admin_pb2.GetStatusResponse) -> list[str]:
    """Return since when this coordinator leads; nothing where no other stands by for it."""
    if not answer.HasField("leadership"):
        return []
    lead = answer.leadership
    return _lines(
        f"leads for {lead.since_s:.0f} s, epoch {lead.epoch}; {lead.waiting} waiting to take over"
    )


def _policy(answer: admin_pb2.GetStatusResponse) -> list[str]:
    """Return what decides, and what it goes by."""
    policy = answer.policy
    if not policy.HasField("price"):
        return [f"policy: {policy.name}"] if policy.name else []
    age = f"plan {policy.plan_age_s:.0f} s old" if policy.HasField("plan_age_s") else "no plan yet"
    return _lines(
        f"policy: {policy.name}; {policy.arrivals_per_s:.3g} requests a second, {policy.load:.0%} "
        "of what the nodes can do without approximation; a device second is worth "
        f"{policy.price:.3g} of a picture's quality; {age}; margin on predictions "
        f"{policy.margin:.2f}"
    )


def _residency(answer: admin_pb2.GetStatusResponse) -> list[str]:
    """Return the plan of who holds which variants; nothing where all fit everywhere."""
    if not answer.HasField("residency"):
        return []
    plan = answer.residency
    said = "no plan yet"
    if plan.HasField("plan_age_s"):
        said = (
            f"plan for {plan.rate_per_s:.3g} requests a second {plan.plan_age_s:.0f} s old "
            f"({plan.reason}, {plan.solved})"
        )
    moving = f"; moving: {', '.join(plan.moving)}" if plan.moving else ""
    return _lines(f"residency: {said}; {plan.moves} moves{moving}")


def _cache(answer: admin_pb2.GetStatusResponse) -> list[str]:
    """Return what the cache has and did, with what fetches took; nothing where it is off."""
    if not answer.HasField("cache"):
        return []
    cache, counts = answer.cache, answer.counters
    if not cache.embedder:
        return ["cache: not in use; no embedder is loaded that is for these variants"]
    said = (
        f"cache: {cache.entries} entries, {cache.lookups} look-ups, {cache.near} with a near "
        f"prompt, {counts.reused} reused, {counts.state_misses} missed, {counts.steps_saved} "
        "steps saved"
    )
    times = [
        f"{t.tier} {1000 * t.p50_s:.2g} ms (99 %: {1000 * t.p99_s:.2g})" for t in cache.fetches
    ]
    return _lines(f"{said}; fetches: {', '.join(times)}" if times else said)


def _quality(answer: admin_pb2.GetStatusResponse) -> list[str]:
    """Return what comparing live pictures has shown; nothing where none are compared."""
    if not answer.HasField("quality"):
        return []
    seen = answer.quality
    said = (
        f"quality: {seen.compared} of {seen.sampled} sampled pictures compared by {seen.scorer} "
        f"({seen.waiting} waiting, {seen.withdrawn} withdrawn, {seen.dropped} dropped, "
        f"{seen.undefined} undefined, {seen.failed} failed)"
    )
    if seen.compared:
        said += f"; observed - predicted {seen.residual:+.3f}"
    if seen.bounds_judged:
        said += f"; {seen.held:.0%} held their bound, margin {seen.margin:.3f}"
    lines = _lines(said)
    for alarm in seen.alarms:
        lines += _lines(
            f"ALARM: {f'level {alarm.level}' if alarm.level else 'all levels'}: pictures are "
            f"{'worse' if alarm.worse else 'better'} than predicted, {alarm.residual:+.3f} on "
            f"average of the last {alarm.pictures}",
            first="  ",
        )
    if seen.trouble:
        lines += _lines(f"TROUBLE: {seen.trouble}", first="  ")
    return lines


def _nodes(answer: admin_pb2.GetStatusResponse) -> list[str]:
    """Return for each node its figures, and on a second line what has no fixed length."""
    lines = ["", "nodes"] if answer.nodes else ["", "no node"]
    longest = max((len(node.hello.node) for node in answer.nodes), default=0)
    for node in answer.nodes:
        hello, beat = node.hello, node.heartbeat
        state = "draining" if node.draining else "serving"
        lines += _lines(
            f"  {hello.node:{min(longest, LONGEST_NAME)}}  {state:8}  "
            f"lanes {beat.lanes}/{hello.max_lanes}  "
            f"slots {hello.slots - beat.slots_free}/{hello.slots}  "
            f"{beat.waiting} waiting  backlog {node.backlog_s:.1f} s"
        )
        variants = ", ".join(resident.variant.name for resident in hello.variants)
        device = f"{hello.device} ({hello.device_name})" if hello.device_name else hello.device
        lines += _lines(
            f"variants {variants}; {device}; peak {beat.peak_lanes} lanes; "
            f"{beat.images_total} images; seen {node.heartbeat_age_s:.1f} s ago",
            first="    ",
        )
    return lines


def _levels(answer: admin_pb2.GetStatusResponse) -> list[str]:
    """Return one line for each level, the figures first and the names last."""
    lines = ["", "levels", "  quality  steps  answered  level"]
    for level in answer.levels:
        run = level.steps_fraction * (1.0 - level.skip_fraction)
        figures = f"  {level.quality:7.2f}  {run:5.0%}  {level.answered:8}"
        name = f"{level.name} on {level.variant}"
        lines += _lines(name, indent=" " * (len(figures) + 2), first=f"{figures}  ")
    return lines


def _lines(text: str, indent: str = "    ", first: str = "") -> list[str]:
    """Return `text` in lines of at most WIDTH, broken between words.

    Args:
        text: words.
        indent: what stands before every line but the first.
        first: what stands before the first.
    """
    return wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
