"""The leader is killed, hangs, and is restarted under load: no picture is lost or made twice."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from local_postgres import LocalPostgres

from argus.client import AsyncClient

from .cluster import OPTIONS, PROMPT, Load, StandbyCluster, until

pytestmark = pytest.mark.standby


def say(title: str, **figures: float | int) -> None:
    """Print a line of figures, for the operator's page."""
    shown = ", ".join(
        f"{name.replace('_', ' ')} {value:.2f} s" if isinstance(value, float) else
        f"{name.replace('_', ' ')} {value}"
        for name, value in figures.items()
    )  # fmt: skip
    print(f"\n{title}: {shown}")


async def test_a_killed_leader_costs_no_picture(tmp_path: Path, postgres: LocalPostgres) -> None:
    async with StandbyCluster(tmp_path, postgres.dsn) as cluster:
        made = await cluster.images_made()
        async with Load(cluster.address) as load:
            await load.go_on(12)
            leader = await cluster.leader()
            other = cluster.other(leader)
            in_flight = [a.seed for a in load.answers if a.accepted_s and not a.images]
            killed_s = time.monotonic()
            leader.signal(signal.SIGKILL)
            await until(other.leads)
            leads_s = time.monotonic()
            await load.go_on(18)
        load.check()
        lost = {a.seed: a.images[0] for a in load.answers if a.seed in in_flight}
        made = await cluster.images_made() - made
        async with AsyncClient(cluster.address) as client:
            status = await client.status()
            for seed, picture in lost.items():
                again = await client.generate(PROMPT, seed=seed, **OPTIONS)
                assert again.data == picture
    assert in_flight
    say(
        "leader killed",
        requests=len(load.answers),
        answered=load.answered,
        pictures_made=made,
        in_flight_then=len(in_flight),
        taken_up=status.counters.adopted,
        next_one_leads_after=leads_s - killed_s,
        first_answer_to_what_was_asked_before=load.first_answer_s(killed_s, True) - killed_s,
        first_answer_to_what_was_asked_since=load.first_answer_s(killed_s, False) - killed_s,
        longest_gap=load.longest_gap_s(),
    )
    assert made == len(load.answers)
    assert status.leadership.epoch == 2
    assert all(a.attempts == 1 for a in load.answers)


async def test_a_leader_that_hangs_is_left_and_steps_down_when_it_wakes(
    tmp_path: Path, postgres: LocalPostgres
) -> None:
    async with StandbyCluster(tmp_path, postgres.dsn, lease_s=3.0) as cluster:
        made = await cluster.images_made()
        async with Load(cluster.address) as load:
            await load.go_on(12)
            leader = await cluster.leader()
            other = cluster.other(leader)
            hung_s = time.monotonic()
            leader.signal(signal.SIGSTOP)
            await until(other.leads)
            leads_s = time.monotonic()
            await load.go_on(12)
            leader.signal(signal.SIGCONT)
            for _ in range(20):
                assert not await leader.leads(), "from the first moment on"
            await load.go_on(12)
            assert await other.leads()
            assert not await leader.leads()
        load.check()
        made = await cluster.images_made() - made
    say(
        "leader hung",
        requests=len(load.answers),
        answered=load.answered,
        pictures_made=made,
        next_one_leads_after=leads_s - hung_s,
        first_answer_to_what_was_asked_before=load.first_answer_s(hung_s, True) - hung_s,
        longest_gap=load.longest_gap_s(),
    )
    assert "leads no more" in leader.log.read_text()
    assert made == len(load.answers)
    # Pings to a leader that hangs are not answered, which takes ten seconds to be sure of.
    assert load.first_answer_s(hung_s, True) - hung_s < 45.0


async def test_a_rolling_restart_of_everything_loses_nothing(
    tmp_path: Path, postgres: LocalPostgres
) -> None:
    async with StandbyCluster(tmp_path, postgres.dsn) as cluster:
        async with Load(cluster.address) as load:
            await load.go_on(6)
            began_s = time.monotonic()
            for name, node in cluster.nodes.items():
                async with AsyncClient(cluster.address) as client:
                    await client.drain(name)
                assert await node.ended() == 0, node.log.read_text()
                node.start()
                await cluster.joined(name)
                await load.go_on(6)
            first = await cluster.leader()
            for coordinator in (cluster.other(first), first):
                await coordinator.restart()
                await load.go_on(6)
            ended_s = time.monotonic()
            assert await cluster.leader() is not first
        load.check()
    say(
        "rolling restart",
        requests=len(load.answers),
        answered=load.answered,
        restarts=4,
        all_of_it=ended_s - began_s,
        longest_gap=load.longest_gap_s(),
    )
    assert all(a.attempts == 1 for a in load.answers)
