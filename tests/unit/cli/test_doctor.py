"""`argus doctor` as a command: its lines, its JSON, its exit code."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import argus
from argus.cli import doctor as doctor_module
from argus.doctor.findings import failed, good, warning
from argus.errors import PermissionDeniedError
from argus.v1 import admin_pb2
from tests.unit.cli.running import Here
from tests.unit.client.scripted import STATUS, Scripted


@pytest.fixture(autouse=True)
def _no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the part that imports torch; tests of its own look at it."""
    monkeypatch.setattr(doctor_module, "_devices_and_models", lambda settings: iter(()))


async def checks(here: Here, *arguments: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    done = await here("doctor", "--json", *arguments)
    answer = json.loads(done.stdout)
    assert answer["ok"] == (done.code == 0)
    found: dict[str, list[dict[str, str]]] = {}
    for check in answer["checks"]:
        found.setdefault(check["check"], []).append(check)
    return done.code, found


async def test_a_line_a_check_with_its_verdict_first(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [good("a", "fine"), warning("b", "poor", "mend it"), failed("c", "broken", "buy one")]
    monkeypatch.setattr(doctor_module, "examine", lambda *_: iter(found))
    done = await here("doctor")
    assert done.code == 1
    assert done.stdout.decode().splitlines() == [
        "ok       a: fine",
        "warning  b: poor; mend it",
        "failed   c: broken; buy one",
    ]
    monkeypatch.setattr(doctor_module, "examine", lambda *_: iter(found[:2]))
    assert (await here("doctor")).code == 0, "warnings do not count"


async def test_a_broken_settings_file_is_a_finding_and_the_rest_goes_on(
    here: Here, tmp_path: Path
) -> None:
    (tmp_path / "argus.toml").write_text("[node]\nslts = 3\n")
    code, found = await checks(here, "--config", "argus.toml")
    assert code == 1
    (settings,) = found["settings"]
    assert settings["verdict"] == "failed"
    assert "did you mean node.slots?" in settings["message"]
    assert {"python", "packages", "port", "clock", "cache", "limits"} <= set(found)


async def test_a_check_that_fails_itself_does_not_end_the_others(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("argus.doctor.clocks.check_monotonic", broken)
    code, found = await checks(here)
    assert code == 1
    assert found["clock"][0]["message"] == "could not be checked: RuntimeError: two lines"
    assert found["limits"]


async def test_a_coordinator_is_asked_for_version_nodes_and_time(
    scripted: Scripted, here: Here
) -> None:
    status = admin_pb2.GetStatusResponse()
    status.CopyFrom(STATUS)
    status.argus_version = argus.__version__
    status.now_unix_s = time.time() - 3600.0
    scripted.admin.status = status
    _, found = await checks(here, "--server", scripted.address)
    (coordinator,) = found["coordinator"]
    assert (coordinator["verdict"], "1 of 1 nodes take work" in coordinator["message"]) == (
        "ok",
        True,
    )
    assert [clock["verdict"] for clock in found["clock"]] == ["ok", "warning"]
    assert "s behind this one" in found["clock"][1]["message"]


async def test_a_coordinator_of_another_version_is_a_warning(
    scripted: Scripted, here: Here
) -> None:
    status = admin_pb2.GetStatusResponse()
    status.CopyFrom(STATUS)
    status.argus_version = "9.9"
    scripted.admin.status = status
    _, found = await checks(here, "--server", scripted.address)
    assert found["coordinator"][0]["verdict"] == "warning"


async def test_a_coordinator_that_is_away_fails(here: Here) -> None:
    code, found = await checks(here, "--server", "127.0.0.1:1")
    assert code == 1
    assert found["coordinator"][0]["message"] == "cannot reach 127.0.0.1:1: Connection refused"


async def test_a_coordinator_that_wants_another_key_is_there(
    scripted: Scripted, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(client: object) -> None:
        raise PermissionDeniedError("API key x is not for this")

    monkeypatch.setattr("argus.client.sync.Client.status", refuse)
    _, found = await checks(here, "--server", scripted.address)
    assert found["coordinator"][0]["verdict"] == "warning"
