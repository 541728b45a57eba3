"""`argus top`: what it makes of two looks at a cluster."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
from rich.console import Console

from argus.cli import top as top_module
from argus.cli.top import moments
from argus.cli.top_moment import Moment, described, moment_between
from argus.cli.top_view import view
from argus.client import Client, Retries
from argus.clock import ManualClock
from argus.errors import UnavailableError
from argus.v1 import admin_pb2, cluster_pb2, image_pb2
from tests.unit.cli.running import Here
from tests.unit.client.scripted import Scripted


def node(name: str, lanes: int, **fields: object) -> admin_pb2.NodeStatus:
    variants = [cluster_pb2.ResidentVariant(variant=image_pb2.Variant(name=v)) for v in ("a", "b")]
    return admin_pb2.NodeStatus(
        hello=cluster_pb2.NodeHello(
            node=name, device="cuda:0", slots=16, max_lanes=8, variants=variants
        ),
        heartbeat=cluster_pb2.Heartbeat(
            rows=3,
            waiting=1,
            lanes=lanes,
            resident=["a"],
            cache=[
                cluster_pb2.CacheTier(tier="memory", bytes_used=3 * 2**20),
                cluster_pb2.CacheTier(tier="server", bytes_used=2**40),
            ],
        ),
        backlog_s=1.5,
        **fields,
    )


def status(uptime_s: float = 100.0, times: int = 1) -> admin_pb2.GetStatusResponse:
    """Return a cluster that has done everything so many times over."""
    return admin_pb2.GetStatusResponse(
        argus_version="0.1.0",
        uptime_s=uptime_s,
        in_flight=4,
        queued=1,
        capacity=1024,
        nodes=[node("n0", 6), node("n1", 2, draining=True)],
        levels=[
            admin_pb2.LevelStatus(name="full", variant="a", quality=1.0, answered=30 * times),
            admin_pb2.LevelStatus(name="half", variant="a", quality=0.9, answered=10 * times),
            admin_pb2.LevelStatus(name="idle", variant="b", quality=0.5),
        ],
        counters=admin_pb2.Counters(
            accepted=48 * times,
            refused=2 * times,
            answered=40 * times,
            failed=8 * times,
            on_time=30 * times,
            quality_sum=39.0 * times,
        ),
        policy=admin_pb2.PolicyStatus(name="argus", price=0.25, load=1.3, arrivals_per_s=25.0),
        cache=admin_pb2.CacheStatus(embedder="e", entries=7, lookups=20 * times, near=5 * times),
    )


def text(moment: Moment, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(view(moment))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_rates_and_shares_are_of_the_time_between() -> None:
    seen = described(moment_between(status(times=1), status(102.0, times=2), 2.0, "h:1"))
    assert (seen["offered_s"], seen["answered_s"], seen["on_time_s"]) == (25.0, 20.0, 15.0)
    assert (seen["on_time"], seen["quality"]) == (30 / 50, 39 / 40)
    assert [level["answered_s"] for level in seen["levels"]] == [15.0, 5.0, 0.0]
    assert seen["cache"] == {"entries": 7, "lookups": 20, "near": 5, "bytes_used": 6 * 2**20}
    assert (seen["lanes"], seen["max_lanes"], seen["price"]) == (8, 16, 0.25)
    assert seen["nodes"][0]["parked"] == ["b"]


def test_a_coordinator_that_was_started_again_counts_from_its_start() -> None:
    seen = described(moment_between(status(1000.0, times=9), status(5.0, times=1), 2.0, "h:1"))
    assert seen["answered_s"] == 20.0
    assert [level["answered_s"] for level in seen["levels"]] == [15.0, 5.0, 0.0]
    assert seen["cache"]["lookups"] == 20


def test_nothing_that_ended_has_no_share() -> None:
    seen = described(moment_between(status(), status(), 2.0, "h:1"))
    assert (seen["on_time"], seen["quality"], seen["offered_s"]) == (None, None, 0.0)
    shown = text(moment_between(status(), status(), 2.0, "h:1"))
    assert "on time - (0/s), quality -" in shown
    assert "- of look-ups near" in shown


def test_people_see_all_of_it() -> None:
    shown = text(moment_between(status(times=1), status(3661.0, times=2), 2.0, "h:1"))
    assert "argus 0.1.0 at h:1, up 1 h 1 min" in shown
    assert "requests 4 of 1024 in flight, 1 queued; 25/s offered, 20/s answered" in shown
    assert "on time 60% (15/s), quality 0.975" in shown
    assert "policy argus: price 0.25, load 130%, 25/s expected" in shown
    assert "cache 7 entries, 6 MiB on nodes; 25% of look-ups near" in shown
    (first, second) = [line for line in shown.splitlines() if line.startswith(("n0", "n1"))]
    assert "██████░░ 6/8" in first
    assert "a (parked b)" in first
    assert "draining" in second
    (full,) = [line for line in shown.splitlines() if line.startswith("full")]
    assert "75%" in full
    assert full.split()[-2:] == ["15", "60"]
    assert "1 levels not used yet" in shown
    assert "idle" not in shown


def test_a_narrow_terminal_loses_nothing() -> None:
    shown = text(moment_between(status(), status(times=2), 2.0, "h:1"), 70)
    assert max(len(line) for line in shown.splitlines()) <= 70
    words = set(shown.replace("(", " ").replace(")", " ").split())
    assert {"parked", "draining", "resident", "images/s"} <= words


def test_an_empty_cluster_says_so() -> None:
    nothing = admin_pb2.GetStatusResponse()
    shown = text(moment_between(nothing, nothing, 2.0, "h:1"))
    assert "no node" in shown
    assert "cache off" in shown


class Played(Client):
    """Says what was written for it, in turn."""

    def __init__(self, *answers: admin_pb2.GetStatusResponse | Exception) -> None:
        super().__init__("h:1", retries=Retries(attempts=1))
        self._answers = iter(answers)

    def status(self) -> admin_pb2.GetStatusResponse:
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_coordinator_that_goes_away_is_shown_as_it_was_until_it_is_back() -> None:
    away = UnavailableError("cannot reach h:1: Connection refused")
    clock = ManualClock()
    played = Played(status(times=1), status(times=2), away, status(times=3))
    looks = moments(played, 2.0, clock, clock.advance)
    before, lost, back = next(looks), next(looks), next(looks)
    assert (before.error, back.error) == ("", "")
    assert "cannot reach h:1" in text(lost)
    assert (described(lost)["reachable"], described(lost)["in_flight"]) == (False, 4)
    assert (before.sample.answered_s, back.sample.answered_s) == (20.0, 10.0), "away counts"


def test_one_that_never_answered_ends_it() -> None:
    with pytest.raises(UnavailableError):
        next(moments(Played(UnavailableError("no")), 0.001))


async def test_once_as_json_is_one_line(scripted: Scripted, here: Here) -> None:
    done = await here("top", "--server", scripted.address, "--once", "--json", "--interval", "0.1")
    assert done.code == 0
    (line,) = done.stdout.splitlines()
    seen = json.loads(line)
    assert (seen["reachable"], seen["server"]) == (True, scripted.address)
    assert [n["name"] for n in seen["nodes"]] == ["node-0"]


async def test_once_for_people_ends_by_itself(scripted: Scripted, here: Here) -> None:
    done = await here("top", "--server", scripted.address, "--once", "--interval", "0.1")
    assert done.code == 0
    assert "node-0" in done.stdout.decode()


async def test_an_interrupt_is_how_one_leaves(
    scripted: Scripted, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(client: Client, interval_s: float) -> Iterator[Moment]:
        yield moment_between(status(), status(times=2), 1.0, "h:1")
        raise KeyboardInterrupt

    monkeypatch.setattr(top_module, "moments", interrupted)
    done = await here("top", "--server", scripted.address, "--json")
    assert (done.code, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)
    done = await here("top", "--server", scripted.address)
    assert (done.code, "argus 0.1.0" in done.stdout.decode()) == (0, True)


async def test_a_coordinator_that_is_away_is_one_line(here: Here) -> None:
    done = await here("top", "--server", "127.0.0.1:1")
    assert (done.code, len(done.stderr.splitlines())) == (1, 1)
