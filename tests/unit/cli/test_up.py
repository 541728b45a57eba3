"""`argus up` as a process: brings its children up, keeps them up, takes them down."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import urllib.request
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from argus.cli import children
from argus.cli.children import Child
from argus.cli.family import dialled
from argus.cli.up import usable_cores
from argus.client import AsyncClient
from argus.errors import UnavailableError

FAKE = Path(__file__).with_name("fake_argus.py")
PATIENCE_S = 30.0


async def start(*arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", str(FAKE), *arguments), stdout=PIPE, stderr=PIPE
    )


async def within(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - processes set no event
            await asyncio.sleep(0.05)


async def within_thread(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - processes set no event
            await asyncio.sleep(0.05)


class Up:
    """A running `argus up`."""

    def __init__(self, process: Process, address: str) -> None:
        self.process = process
        self.address = address
        self.children = psutil.Process(process.pid).children(recursive=True)

    def child(self, word: str) -> psutil.Process:
        current = psutil.Process(self.process.pid).children()
        return next(p for p in current if word in p.cmdline())

    async def members(self) -> dict[str, str]:
        async with AsyncClient(self.address) as client:
            status = await client.status()
        return {node.hello.node: node.hello.device for node in status.nodes}

    async def has_members(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    if len(await self.members()) == count:
                        return
                except UnavailableError:
                    pass
                await asyncio.sleep(0.05)

    def none_left(self) -> bool:
        return not any(p.is_running() and p.status() != "zombie" for p in self.children)


@asynccontextmanager
async def running(*arguments: str) -> AsyncGenerator[Up, None]:
    process = await start("up", "--bind", "127.0.0.1:0", "--http", "off", *arguments)
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
        word, address = line.decode().split()
        assert word == "ready"
        yield Up(process, address)
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.communicate(), PATIENCE_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_ready_once_and_ends_cleanly_with_all_children(
    number: signal.Signals,
) -> None:
    async with running("--nodes", "2") as up:
        assert sorted(await up.members()) == ["node-0", "node-1"]
        assert len(up.children) == 3
        up.process.send_signal(number)
        output, errors = await asyncio.wait_for(up.process.communicate(), PATIENCE_S)
        assert up.process.returncode == 0
        assert output == b""
        assert b"Traceback" not in errors
        assert b"nodes may speak on stdout" in errors
        assert up.none_left()


async def test_children_end_when_the_parent_is_killed() -> None:
    async with running("--nodes", "2") as up:
        up.process.kill()
        await within(up.none_left)


async def test_a_killed_node_and_a_killed_coordinator_come_back_where_they_were() -> None:
    async with running("--nodes", "2") as up:
        up.child("node-1").kill()
        await up.has_members(1)
        await up.has_members(2)
        up.child("coordinator").kill()
        await up.has_members(2)


async def test_a_node_that_leaves_in_good_order_does_not_come_back() -> None:
    async with running("--nodes", "2") as up:
        up.child("node-1").terminate()
        await up.has_members(1)
        await asyncio.sleep(1.5)  # it would be back: the first wait is 0.05 s here
        assert list(await up.members()) == ["node-0"]
        up.child("node-0").kill()
        await up.has_members(0)
        await up.has_members(1)


async def test_a_second_signal_does_not_wait_for_a_child_that_will_not_end() -> None:
    async with running("--model", "stubborn") as up:
        up.process.terminate()
        coordinator = up.child("coordinator")
        await within(lambda: not coordinator.is_running())
        up.process.terminate()
        _, errors = await asyncio.wait_for(up.process.communicate(), PATIENCE_S)
        assert up.process.returncode == 1
        said = [line for line in errors.splitlines() if line != b"nodes may speak on stdout"]
        assert len(said) == 1
        assert said[0].startswith(b"argus: ended by a second signal")
        assert up.none_left()


async def test_a_child_that_does_not_end_in_time_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    deaf = "import signal, time; signal.signal(15, lambda *_: None); print('up x'); time.sleep(60)"
    monkeypatch.setattr(children, "COMMAND", (sys.executable, "-u", "-c", deaf))
    child = Child("deaf", (), announces=True)
    await child.end(1)  # nothing was started
    with pytest.raises(RuntimeError, match="deaf was not started"):
        await child.ended()
    await child.start()
    assert await child.first_line("up") == "x"
    await child.end(0.1)
    assert await child.ended() == "was killed by SIGKILL"
    assert "deaf did not end within 0.1 s" in caplog.text


async def test_cores_and_devices_are_dealt_to_the_nodes() -> None:
    async with running("--nodes", "3", "--device", "cpu, cuda:0") as up:
        share = max(1, usable_cores() // 3)
        assert await up.members() == {
            "node-0": f"cpu {share}",
            "node-1": "cuda:0 0",
            "node-2": f"cpu {share}",
        }


async def test_threads_can_be_set_by_hand() -> None:
    async with running("--threads", "3", "--levels", "x.json", "--log-level", "debug") as up:
        assert await up.members() == {"node-0": "auto 3"}


async def test_nodes_on_ray_are_as_many_as_it_has_room_for_and_come_back_as_many() -> None:
    async with running("--ray", "auto", "--ray-cpus", "2", "--threads", "5") as up:
        assert await up.members() == dict.fromkeys(["node-0", "node-1", "node-2"], "auto 5")
        assert len(up.children) == 2
        up.child("ray").kill()
        await up.has_members(0)
        await up.has_members(3)
        assert up.child("ray").cmdline()[-3:-1] == ["--nodes", "3"]
    assert up.none_left()


async def test_nodes_that_all_left_ray_do_not_come_back() -> None:
    async with running("--ray", "auto", "--nodes", "2") as up:
        assert len(await up.members()) == 2
        up.child("ray").terminate()
        await up.has_members(0)
        await asyncio.sleep(1.5)  # they would be back: the first wait is 0.05 s here
        assert not await up.members()


async def test_nodes_that_cannot_run_on_ray_end_everything_with_their_reason() -> None:
    arguments = ("--ray", "auto", "--model", "/broken")
    code, errors = await failed("up", "--bind", "127.0.0.1:0", "--http", "off", *arguments)
    assert code == 1
    assert errors.splitlines() == [
        "argus: broken: no model_index.json",
        "argus: ray ended with code 1 before it was ready",
    ]


async def failed(*arguments: str) -> tuple[int | None, str]:
    process = await start(*arguments)
    output, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert output == b""
    assert b"Traceback" not in errors
    return process.returncode, errors.decode()


async def test_a_broken_model_ends_everything_with_its_reason() -> None:
    code, errors = await failed("up", "--bind", "127.0.0.1:0", "--http", "off", "--model", "broken")
    assert code == 1
    assert errors.splitlines() == [
        "argus: broken: no model_index.json",
        "argus: node-0 ended with code 1 before it was ready",
    ]


async def test_a_bug_leaves_its_traceback_in_the_log() -> None:
    process = await start("node", "--model", "buggy")
    output, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    logged, said = errors.decode().splitlines()
    assert "ERROR   node argus.cli.logs: a bug ended the process | Traceback" in logged
    assert "in serve_node" in logged
    assert said == "argus: internal error: RuntimeError: nobody foresaw this"
    assert (process.returncode, output) == (1, b"")


async def test_a_port_in_use_is_told_in_plain_words() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        reason = f"argus: coordinator.bind: cannot listen on {bind}: address already in use"
        code, errors = await failed("coordinator", "--bind", bind)
        for command in (("coordinator",), ("up", "--http", "off")):
            code, errors = await failed(*command, "--bind", bind)
            (line,) = errors.splitlines()
            assert (code, line.startswith(reason)) == (1, True)
            assert f"(process {os.getpid()}); end that, or name another port" in line


async def test_a_wrong_setting_ends_it_before_anything_starts(tmp_path: Path) -> None:
    code, errors = await failed("up", "--bind", "127.0.0.1:0", "--max-lanes", "1")
    assert (code, len(errors.splitlines())) == (2, 1)
    assert "argus: --max-lanes: must be at least 2" in errors
    file = tmp_path / "argus.toml"
    file.write_text("[node]\nslotz = 3\n")
    code, errors = await failed("up", "--config", str(file))
    assert code == 2
    assert "did you mean node.slots?" in errors


async def test_settings_come_from_the_file_too(tmp_path: Path) -> None:
    file = tmp_path / "argus.toml"
    file.write_text("[node]\nthreads = 5\ndevice = 'cpu'\n")
    async with running("--config", str(file)) as up:
        assert await up.members() == {"node-0": "cpu 5"}


async def test_the_coordinator_is_told_where_it_keeps_what_was_learned(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    async with running("--state-file", str(file)) as up:
        command = up.child("coordinator").cmdline()
        assert command[command.index("--state-file") + 1] == str(file)


async def test_the_gateway_is_announced_and_comes_back_where_it_was() -> None:
    async with running("--http", "127.0.0.1:0") as up:
        assert up.process.stdout is not None
        line = await asyncio.wait_for(up.process.stdout.readline(), PATIENCE_S)
        word, address = line.decode().split()
        assert word == "http"

        def answers() -> bool:
            try:
                with urllib.request.urlopen(f"http://{address}/livez", timeout=5) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        await within_thread(answers)
        killed = up.child("gateway")
        killed.kill()
        await within(lambda: not killed.is_running())
        await within_thread(answers)


async def test_a_port_for_http_that_is_taken_ends_everything() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        http = f"127.0.0.1:{taken.getsockname()[1]}"
        code, errors = await failed("up", "--bind", "127.0.0.1:0", "--http", http)
    (line,) = errors.splitlines()
    assert code == 1
    assert line.startswith(f"argus: gateway.bind: cannot listen on {http}: address already in use")


async def test_ending_while_children_start_leaves_none() -> None:
    process = await start("up", "--bind", "127.0.0.1:0")
    parent = psutil.Process(process.pid)
    await within(lambda: len(parent.children()) > 0)
    children = parent.children()
    process.terminate()
    await asyncio.wait_for(process.communicate(), PATIENCE_S)
    await within(lambda: not any(child.is_running() for child in children))


@pytest.mark.parametrize(
    ("listening", "reached"),
    [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("h:1", "h:1")],
)
def test_nodes_dial_an_address_that_exists(listening: str, reached: str) -> None:
    assert dialled(listening) == reached


def test_affinity_limits_the_cores() -> None:
    assert usable_cores() == len(os.sched_getaffinity(0))
