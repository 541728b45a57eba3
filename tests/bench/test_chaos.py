"""What counts the losses counts them, and the network in between does what it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import chaos_ledger as ledger
import pytest
import pytest_asyncio
from chaos_cluster import Moment
from chaos_faults import FAULTS
from client_load import Outcome
from soak import Sample, growth
from tcp_proxy import TcpProxy


def outcome(number: int, **changes: object) -> Outcome:
    """Return a request that was answered two seconds after it was sent."""
    made = Outcome(
        f"r{number}",
        number,
        due_s=float(number),
        sent_s=float(number),
        accepted_s=number + 0.1,
        ended_s=number + 2.0,
        digest=f"digest of {number}",
        images=1,
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_what_was_accepted_and_not_answered_is_lost_however_it_ended() -> None:
    fine, silent = outcome(1), outcome(2, digest="", images=0, ended_s=None)
    failed = outcome(3, digest="", images=0, error="InternalError")
    refused = outcome(4, digest="", images=0, accepted_s=None, error="OverloadedError")
    assert ledger.lost([fine, silent, failed, refused]) == [silent, failed]
    assert ledger.refusals_ms([fine, silent, failed, refused]) == [2000.0]


@pytest.mark.parametrize(
    ("spoiled", "again", "surplus", "word"),
    [
        ({"images": 2}, {}, 0, "r2: 2 images"),
        ({"digest": "digest of 1"}, {}, 0, "2 requests got the picture"),
        ({}, {"r2": "another"}, 0, "another picture when asked again"),
        ({}, {}, 3, "3 pictures were made for nobody"),
    ],
)
def test_pictures_that_came_twice_are_found(
    spoiled: dict[str, object], again: dict[str, str], surplus: int, word: str
) -> None:
    fine = [outcome(1), outcome(2)]
    assert ledger.duplicated(fine, {"r1": "digest of 1"}, 0) == []
    (wrong,) = ledger.duplicated([outcome(1), outcome(2, **spoiled)], again, surplus)
    assert word in wrong


def test_gaps_count_from_the_fault_to_the_end() -> None:
    outcomes = [outcome(0), outcome(1), outcome(5)]  # answered at 2, 3 and 7
    assert ledger.longest_gap_s(outcomes, 2.5, 8.0) == 4.0
    assert ledger.longest_gap_s(outcomes, 2.5, 20.0) == 13.0
    assert ledger.longest_gap_s([], 1.0, 4.0) == 3.0


def test_whole_is_when_it_stays_whole() -> None:
    both, one = frozenset({"a", "b"}), frozenset({"a"})
    moments = [Moment(at, both, 0, 0) for at in (0.0, 1.0)]
    moments += [Moment(2.0, one, 0, 0), Moment(3.0, both, 9, 0), Moment(4.0, both, 1, 0)]
    assert ledger.whole_after_s(moments, both, 1.0, usual=2) == 3.0
    assert ledger.whole_after_s(moments, both, 1.0, usual=0) is None
    assert ledger.whole_after_s([*moments, Moment(5.0, one, 0, 0)], both, 1.0, usual=2) is None


def test_the_first_fault_is_none_and_names_differ() -> None:
    names = [fault.name for fault in FAULTS]
    assert names[0] == "none"
    assert len(set(names)) == len(names)


def test_growth_is_seen_in_memory_and_in_what_is_left() -> None:
    def sample(rss: float, files: int = 10) -> Sample:
        return Sample(0.0, round(rss), files, 5, 5)

    flat = [sample(100e6)] * 100
    idle = sample(100e6)
    assert growth(flat, (idle, idle))["flat"]
    rising = [sample(100e6 + n * 1e5) for n in range(100)]
    assert not growth(rising, (idle, idle))["flat"]
    assert not growth(flat, (idle, sample(100e6, files=20)))["flat"]


@pytest_asyncio.fixture
async def echo() -> AsyncIterator[str]:
    """A server that sends back what it gets."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def dial(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = address.split(":")
    return await asyncio.open_connection(host, int(port))


async def test_a_network_passes_everything_on_in_order_and_late_if_told(echo: str) -> None:
    data = bytes(range(256)) * 1000
    async with TcpProxy(echo) as network:
        network.weather.delay_s = 0.05
        reader, writer = await dial(network.address)
        start = time.monotonic()
        writer.write(data)
        async with asyncio.timeout(20):
            assert await reader.readexactly(len(data)) == data
        assert time.monotonic() - start >= 0.1
        writer.close()


async def test_a_cut_network_holds_back_what_comes_until_it_is_mended(echo: str) -> None:
    async with TcpProxy(echo) as network:
        reader, writer = await dial(network.address)
        writer.write(b"before")
        async with asyncio.timeout(20):
            assert await reader.readexactly(6) == b"before"
        network.weather.open.clear()
        writer.write(b"meanwhile")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(1)
        network.weather.open.set()
        async with asyncio.timeout(20):
            assert await reader.readexactly(9) == b"meanwhile"
        network.reset()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            async with asyncio.timeout(20):
                await reader.readexactly(1)


async def test_a_slow_network_takes_its_time(echo: str) -> None:
    async with TcpProxy(echo) as network:
        network.weather.bytes_per_s = 10_000.0
        reader, writer = await dial(network.address)
        start = time.monotonic()
        writer.write(bytes(1000))
        async with asyncio.timeout(20):
            await reader.readexactly(1000)
        assert time.monotonic() - start >= 0.2
        writer.close()
