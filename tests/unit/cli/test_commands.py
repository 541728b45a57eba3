"""The commands that talk to a coordinator, against a scripted one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from typer.testing import CliRunner

from argus import __version__
from argus.cli import generate as generate_module
from argus.cli.main import app
from argus.client import Retries
from argus.errors import UnavailableError
from argus.v1 import admin_pb2
from tests.unit.cli.running import Here, argus
from tests.unit.client.scripted import PNG, STATUS, Scripted

COMMANDS = (
    *("up", "generate", "status", "top", "drain", "doctor", "profile", "coordinator", "node"),
)
FAST = Retries(attempts=4, first_wait_s=0.01, longest_wait_s=0.02)


async def test_a_picture_is_saved_by_the_real_command(scripted: Scripted, tmp_path: Path) -> None:
    done = await argus(
        *("generate", "a red circle", "--server", scripted.address, "--seed", "7", "-o", "a.png"),
        cwd=tmp_path,
    )
    assert (done.code, done.stdout) == (0, b"")
    assert (tmp_path / "a.png").read_bytes() == PNG
    assert done.stderr.splitlines()[-1].startswith("a.png: 32x32, seed 7, level base, 50 steps on")


async def test_every_flag_reaches_the_server(scripted: Scripted, here: Here) -> None:
    flags: Mapping[str, str | int | float] = {
        "seed": 3,
        "steps": 20,
        "guidance": 4.5,
        "negative_prompt": "blue",
        "sampler": "euler",
        "variant": "base",
        "level": "base-25",
        "min_quality": 0.5,
        "request_id": "mine",
        "eta": 0.25,
        "guidance_rescale": 0.5,
        "true_guidance": 3.5,
        "preview_every": 3,
    }
    arguments = [a for name, v in flags.items() for a in (f"--{name.replace('_', '-')}", str(v))]
    done = await here(
        *("generate", "p", "--server", scripted.address, "--size", "32x64", "--deadline", "30"),
        *(*arguments, "-o", "a.webp"),
    )
    assert done.code == 0
    (message,) = scripted.images.received
    assert {name: getattr(message, name) for name in flags} == flags
    assert (message.width, message.height, message.deadline_s) == (32, 64, 30.0)
    assert message.format == 2, "the extension says WebP"


async def test_json_is_all_there_is_on_stdout(
    scripted: Scripted, here: Here, tmp_path: Path
) -> None:
    done = await here("generate", "ein Rotkäppchen", "--server", scripted.address, "--json")
    described = json.loads(done.stdout)
    assert described["file"] == "argus-5.png"
    assert (tmp_path / "argus-5.png").read_bytes() == PNG
    assert described["prompt"] == "ein Rotkäppchen"
    assert (described["format"], described["max_lanes"], described["node"]) == ("png", 4, "node-0")
    assert "data" not in described
    assert done.stderr == "argus: warning: cut (PROMPT_TRUNCATED)\n"


async def test_several_pictures_are_numbered(scripted: Scripted, here: Here) -> None:
    done = await here(
        *("generate", "p", "--server", scripted.address, "--seed", "5", "-n", "3", "--json"),
        *("--request-id", "r", "-o", "a.png"),
    )
    described = [json.loads(line) for line in done.stdout.splitlines()]
    assert [d["file"] for d in described] == ["a-1.png", "a-2.png", "a-3.png"]
    assert [d["seed"] for d in described] == [5, 6, 7]
    assert [d["request_id"] for d in described] == ["r-1", "r-2", "r-3"]


async def test_a_picture_can_go_to_stdout(scripted: Scripted, here: Here, tmp_path: Path) -> None:
    done = await here("generate", "p", "--server", scripted.address, "-o", "-")
    assert done.stdout == PNG
    assert os.listdir(tmp_path) == []


async def test_previews_are_kept_beside_each_other_under_id_and_step(
    scripted: Scripted, here: Here, tmp_path: Path
) -> None:
    (tmp_path / "looks").mkdir()
    done = await here(
        *("generate", "p", "--server", scripted.address, "-n", "2", "--request-id", "r"),
        *("--preview-every", "3", "--preview-dir", "looks", "-o", "a.png"),
    )
    assert done.code == 0
    kept = {path.name: path.read_bytes() for path in (tmp_path / "looks").iterdir()}
    assert kept == {"r-1-0003.jpg": b"jpeg", "r-2-0003.jpg": b"jpeg"}


async def test_previews_nobody_asked_for_are_not_kept(
    scripted: Scripted, here: Here, tmp_path: Path
) -> None:
    await here("generate", "p", "--server", scripted.address, "-o", "a.png")
    assert os.listdir(tmp_path) == ["a.png"]


async def test_a_format_can_be_named_where_the_file_does_not_tell(
    scripted: Scripted, here: Here
) -> None:
    await here("generate", "p", "--server", scripted.address, "--format", "jpeg", "-o", "picture")
    assert scripted.images.received[0].format == 3


async def test_several_pictures_are_made_at_a_time_and_come_in_order(
    scripted: Scripted, here: Here
) -> None:
    done = await here(
        *("generate", "wait 0.2", "--server", scripted.address, "-n", "12", "--seed", "3"),
        *("-o", "a.png", "--json"),
    )
    assert scripted.images.most_running == 8
    described = [json.loads(line) for line in done.stdout.splitlines()]
    assert [d["seed"] for d in described] == list(range(3, 15))
    assert [d["file"] for d in described] == [f"a-{i}.png" for i in range(1, 13)]


async def test_the_last_of_all_seeds_can_be_reached(scripted: Scripted, here: Here) -> None:
    arguments = ("generate", "p", "--server", scripted.address, "-n", "2", "--json", "-o", "a.png")
    done = await here(*arguments, "--seed", str(2**63 - 2))
    assert [json.loads(line)["seed"] for line in done.stdout.splitlines()] == [
        2**63 - 2,
        2**63 - 1,
    ]


async def test_ids_of_a_lost_series_lead_back_to_the_whole_of_it(
    scripted: Scripted, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("argus.cli.connect.RETRIES", Retries(attempts=1))
    scripted.images.loss = UnavailableError("Socket closed")
    done = await here("generate", "p", "--server", scripted.address, "-n", "2", "--request-id", "r")
    assert done.code == 1
    assert done.stderr.endswith("repeating it with --request-id=r is safe\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "."], "cannot write '.': it is a folder"),
        (["-o", "no/a.png"], "there is no folder 'no'"),
        (["-o", "a.gif"], "the extension must be one of .png, .webp, .jpg, .jpeg, not '.gif'"),
        (["-o", "-", "--json"], "stdout takes one picture and no JSON"),
        (["-o", "-", "-n", "2"], "stdout takes one picture and no JSON"),
        (["--format", "gif"], "format: must be one of png, webp, jpeg, not 'gif'"),
        (["--size", "big"], "--size: must be WIDTHxHEIGHT"),
        (["--steps", "0"], "--steps: must be a whole number of 1 to 1,000, not 0"),
        (["--seed", "-4"], "seed: must be a whole number of 0 to"),
        (["--deadline", "nan"], "argus: --deadline: must be a number above 0"),
        (["--request-id", ""], "--request-id: must not be empty"),
        (["--request-id", "x" * 127, "-n", "10"], "--request-id: must be 1 to 128"),
        (["--min-quality", "2"], "argus: --min-quality: must be a number 0 to 1"),
        (["--negative-prompt", "x" * 4001], "argus: --negative-prompt: must have at most"),
        (["--size", "0x0"], "argus: --size: width and height must be above 0"),
        (["--size", "64X4294967296"], "--size: width and height must be above 0 and at most"),
        (["--seed", str(2**63 - 1), "-n", "2"], "--seed: must be at most 9,223,372,036,854,775,80"),
        (["-o", "x" * 256 + ".png"], f"-o: cannot write '{'x' * 256}.png': File name too long"),
        (["-o", "x" * 250 + ".png", "-n", "9"], "File name too long"),
        (["-o", ".", "-n", "2"], "cannot write '.': it is a folder"),
        (["-o", "a.jpg", "--format", "png"], "-o: the extension of 'a.jpg' does not fit --format"),
        (["--server", "nowhere"], "--server: must be HOST:PORT"),
        (["--eta", "1.5"], "--eta: must be a number 0 to 1, not 1.5"),
        (["--guidance-rescale", "-1"], "--guidance-rescale: must be a number 0 to 1"),
        (["--true-guidance", "51"], "--true-guidance: must be a number 0 to 50"),
        (["--preview-every", "-1"], "--preview-every: must be a whole number"),
        (
            ["--preview-every", "3", "--preview-dir", "no"],
            "--preview-dir: cannot write 'no': there is no such folder",
        ),
    ],
)
async def test_bad_arguments_are_refused_before_anything_is_sent(
    scripted: Scripted, here: Here, arguments: list[str], words: str
) -> None:
    done = await here("generate", "p", "--server", scripted.address, *arguments)
    assert done.code == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert scripted.images.received == []


@pytest.mark.parametrize("arguments", [["--nope"], ["--steps", "many"], ["-n", "0"]])
async def test_flags_that_cannot_be_read_end_with_code_2(here: Here, arguments: list[str]) -> None:
    done = await here("generate", "p", *arguments)
    assert done.code == 2
    assert "Error: " in done.stderr


async def test_a_file_that_may_not_be_written_is_refused(
    scripted: Scripted, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("argus.cli.output.os.access", lambda path, mode: False)
    done = await here("generate", "p", "--server", scripted.address, "-o", "a.png")
    assert (done.code, done.stderr) == (2, "argus: -o: cannot write 'a.png': permission denied\n")
    assert scripted.images.received == []


async def test_a_disk_that_fills_up_is_one_line(scripted: Scripted, here: Here) -> None:
    done = await here("generate", "p", "--server", scripted.address, "-o", "/dev/full")
    assert done.code == 2
    assert "No space left on device" in done.stderr


async def test_a_file_that_cannot_be_written_gives_the_other_pictures_up(
    scripted: Scripted, here: Here, tmp_path: Path
) -> None:
    (tmp_path / "a-1.png").mkdir()
    arguments = ("generate", "p", "--server", scripted.address, "-n", "50", "-o", "a.png")
    done = await here(*arguments)
    assert (done.code, done.stderr.splitlines()[-1]) == (
        2,
        "argus: -o: cannot write 'a-1.png': Is a directory",
    )
    assert len(scripted.images.received) < 50


async def test_an_unknown_variant_lists_those_there_are(scripted: Scripted, here: Here) -> None:
    done = await here("generate", "p", "--server", scripted.address, "--variant", "bse")
    assert done.code == 2
    assert done.stderr == (
        "argus: --variant: unknown 'bse' (did you mean 'base'?); known: base, small\n"
    )


async def test_bytes_that_are_not_utf8_are_refused() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "argus.cli.main", "generate", b"\xff\xfe"), stderr=PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert errors == b"argus: prompt: must be text in UTF-8; character 1 is not\n"


@pytest.mark.parametrize("command", [["generate", "p"], ["status"], ["drain", "node-0"]])
async def test_a_coordinator_that_is_away_is_one_line(here: Here, command: list[str]) -> None:
    done = await here(*command, "--server", "127.0.0.1:1")
    assert done.code == 1
    assert done.stderr == (
        "argus: cannot reach 127.0.0.1:1: Connection refused; is `argus up` running there?\n"
    )


async def test_a_lost_request_is_tried_again_longer_than_a_new_one(
    scripted: Scripted, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("argus.cli.connect.RETRIES", FAST)
    scripted.images.loss = UnavailableError("Socket closed")
    scripted.images.failures = [UnavailableError("no node")] * 9
    done = await here("generate", "p", "--server", scripted.address, "-o", "a.png")
    assert done.code == 0
    assert len({message.request_id for message in scripted.images.received}) == 1


async def test_who_gives_a_lost_request_up_says_that_repeating_is_safe(
    scripted: Scripted, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("argus.cli.connect.RETRIES", FAST)
    monkeypatch.setattr("argus.client.retries.PATIENCE_S", 0.1)
    scripted.images.loss = UnavailableError("cannot reach h: Socket closed")
    scripted.images.failures = [scripted.images.loss] * 99
    done = await here("generate", "p", "--server", scripted.address, "--request-id", "mine")
    assert (done.code, done.stderr) == (
        1,
        "argus: cannot reach h: Socket closed; the request had been accepted: repeating it with "
        "--request-id=mine is safe\n",
    )


async def test_no_node_yet_is_one_line(scripted: Scripted, here: Here) -> None:
    scripted.images.failures = [UnavailableError("no node has joined yet")] * 4
    done = await here("generate", "p", "--server", scripted.address)
    assert (done.code, done.stderr) == (1, "argus: no node has joined yet\n")


async def test_a_bug_is_one_line_too(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(generate_module, "parse_size", broken)
    done = await here("generate", "p", "--size", "8x8")
    assert (done.code, done.stderr) == (1, "argus: internal error: RuntimeError: two lines\n")


async def test_status_as_json_keeps_the_names_of_the_proto(scripted: Scripted, here: Here) -> None:
    done = await here("status", "--server", scripted.address, "--json")
    status = json.loads(done.stdout)
    (node,) = status["nodes"]
    assert (node["hello"]["node"], node["heartbeat"]["peak_lanes"]) == ("node-0", 6)
    assert (node["draining"], status["queued"]) == (False, 0), "defaults are printed"
    assert status["levels"][0]["steps_fraction"] == 1.0


async def test_status_as_json_has_numbers_where_the_proto_has_numbers(
    scripted: Scripted, here: Here
) -> None:
    status = json.loads((await here("status", "--server", scripted.address, "--json")).stdout)
    (node,) = status["nodes"]
    assert (status["counters"]["accepted"], status["counters"]["failed"]) == (3, 0)
    assert (node["heartbeat"]["sequence"], node["hello"]["memory_bytes"]) == (3, 80 * 2**30)
    assert MessageToDict(STATUS, preserving_proto_field_name=True)["counters"]["accepted"] == "3"
    back = ParseDict(status, admin_pb2.GetStatusResponse())
    assert back == STATUS, "every protobuf reader still understands it"


async def test_status_for_people_shows_lanes_in_use(scripted: Scripted, here: Here) -> None:
    done = await here("status", "--server", scripted.address)
    text = done.stdout.decode()
    assert "3 accepted, 2 answered" in text
    (row,) = [line for line in text.splitlines() if "node-0" in line]
    assert "4/8" in row
    assert "serving" in row


async def test_drain(scripted: Scripted, here: Here) -> None:
    done = await here("drain", "node-0", "--server", scripted.address)
    assert (done.code, done.stdout) == (0, b"node-0 is draining\n")
    assert scripted.admin.drained == ["node-0"]
    done = await here("drain", "node-0", "--server", scripted.address, "--json")
    assert (done.code, json.loads(done.stdout)) == (0, {"draining": "node-0"})


async def test_a_terminal_gets_a_progress_bar(
    scripted: Scripted, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = await here("generate", "wait 0.4", "--server", scripted.address, "--steps", "3")
    assert done.stdout == b""
    assert "base on node-0" in done.stderr
    assert "3/3" in done.stderr
    assert "base on node-0, 4 lanes" in done.stderr


def test_version_and_help() -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["--version"]).stdout == f"argus {__version__}\n"
    shown = runner.invoke(app, ["--help"]).stdout
    for command in COMMANDS:
        assert command in shown
    flags = runner.invoke(app, ["generate", "--help"]).stdout
    for flag in ("--negative-prompt", "--min-quality", "--request-id", "-o", "-n", "--level"):
        assert flag in flags
    assert "--watch-stdin" not in runner.invoke(app, ["node", "--help"]).stdout


@pytest.mark.parametrize("command", [[], *([c] for c in COMMANDS)])
def test_h_is_short_for_help(command: list[str]) -> None:
    runner = CliRunner()
    shown = runner.invoke(app, [*command, "-h"])
    assert shown.exit_code == 0
    assert shown.stdout == runner.invoke(app, [*command, "--help"]).stdout


async def test_the_command_does_not_import_torch() -> None:
    program = (
        "import sys, argus.cli.main, argus.client; "
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'PIL', 'scipy', 'cvxpy'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-P", "-c", program, stdout=PIPE)
    output, _ = await process.communicate()
    assert output == b"[]\n"
