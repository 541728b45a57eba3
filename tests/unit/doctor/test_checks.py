"""Each check of `argus doctor` tells what is well from what is not."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from argus.config import (
    CacheConfig,
    Config,
    CoordinatorConfig,
    NodeConfig,
    QualityConfig,
    TracingConfig,
)
from argus.doctor.clocks import check_monotonic, check_skew
from argus.doctor.devices import runs_on
from argus.doctor.findings import Verdict, size
from argus.doctor.models import check_model, check_models
from argus.doctor.places import check_folder, check_limits, check_places
from argus.doctor.ports import check_port, check_ports
from argus.doctor.settings import check_files
from argus.doctor.traces import check_tracing
from argus.doctor.versions import check_packages, check_python, check_versions
from argus.models import bundled_variants

OK, WARNING, FAILED = Verdict.OK, Verdict.WARNING, Verdict.FAILED
SMALL = bundled_variants()["scenes-small"]


def test_bytes_are_short() -> None:
    shown = [size(n) for n in (0, 999, 2048, 1023 * 2**10, 1.5 * 2**30, 3 * 2**50)]
    assert shown == ["0 B", "999 B", "2 KiB", "1023 KiB", "1.5 GiB", "3072 TiB"]


def test_an_old_python_is_told_what_to_install() -> None:
    assert check_python(">=3.11", "3.13.1").verdict is OK
    assert check_python(">=3.11", "3.14.0rc2").verdict is OK
    old = check_python(">=3.11", "3.10.4")
    assert (old.verdict, old.remedy) == (FAILED, "install Python >=3.11")


def test_the_installation_under_test_is_fit() -> None:
    found = list(check_versions())
    assert {finding.check for finding in found} == {"python", "packages"}
    assert [finding.message for finding in found if finding.verdict is FAILED] == []


def test_packages_are_missing_too_old_or_left_alone() -> None:
    found = list(
        check_packages(
            [
                "pytest>=1",
                "pytest>9999",
                "no-such-package-of-argus>=2",
                'another-that-is-not-there>=2; extra == "cuda"',
                'pytest-asyncio>9999; extra == "dev"',
                'no-such-package-of-argus>=3; sys_platform == "nowhere"',
                "=nonsense",
            ]
        )
    )
    assert {(f.verdict, f.facts.get("package")) for f in found} == {
        (FAILED, "pytest"),
        (FAILED, "no-such-package-of-argus"),
        (WARNING, "pytest-asyncio"),
        (WARNING, None),
    }
    missing = next(f for f in found if f.facts.get("package") == "no-such-package-of-argus")
    assert missing.remedy == "pip install 'no-such-package-of-argus>=2'"


def test_a_free_port_is_free_and_a_taken_one_names_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        taken = check_port("coordinator.bind", address)
        assert taken.verdict is FAILED
        assert f"(process {os.getpid()})" in taken.message
        assert taken.remedy == "end that, or name another in coordinator.bind"
        unnamed = check_port("gateway.bind", address, named=False)
        assert (unnamed.verdict, unnamed.message.endswith("the next free port will be taken")) == (
            OK,
            True,
        )
    assert check_port("coordinator.bind", address).verdict is OK


def test_a_port_that_argus_itself_holds_is_well(tmp_path: Path) -> None:
    (tmp_path / "argus").write_text(
        "import socket, sys\n"
        "s = socket.create_server(('127.0.0.1', 0))\n"
        "print(s.getsockname()[1], flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, str(tmp_path / "argus")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        found = check_port("coordinator.bind", f"127.0.0.1:{port}")
        process.communicate()
    assert found.verdict is OK
    assert found.facts["pid"] == process.pid


@pytest.mark.parametrize("address", ["nowhere", "192.0.2.1:7420", "no-such-host.invalid:1"])
def test_an_address_that_is_not_ours_cannot_be_listened_on(address: str) -> None:
    found = check_port("coordinator.bind", address)
    assert found.verdict is FAILED
    assert "coordinator.bind" in found.message


def test_what_is_off_has_no_port() -> None:
    config = Config(coordinator=CoordinatorConfig(bind="127.0.0.1:0", metrics="off"))
    settings = [finding.facts["setting"] for finding in check_ports(config)]
    assert settings == ["coordinator.bind", "gateway.bind"]


def test_the_clock_of_this_machine_is_fine_enough() -> None:
    assert check_monotonic().verdict is OK


def test_clocks_are_apart_only_beyond_what_the_call_took() -> None:
    near = check_skew(1000.0, 1000.4, 1000.9)
    assert (near.verdict, near.facts) == (OK, {"skew_s": 0.7, "doubt_s": 0.2})
    ahead = check_skew(1000.0, 1000.1, 1010.0)
    assert ahead.verdict is WARNING
    assert "9.950 s ahead of this one" in ahead.message
    assert "behind this one" in check_skew(1000.0, 1000.1, 990.0).message
    assert check_skew(1000.0, 1000.1, 0.0).verdict is OK, "an older coordinator says nothing"


def test_a_cache_folder_needs_room_and_rights(tmp_path: Path) -> None:
    (tmp_path / "states").mkdir()
    (tmp_path / "states" / "one").write_bytes(bytes(2048))
    held = check_folder("cache", "cache.folder", tmp_path / "states", 4096)
    assert (held.verdict, held.facts["held_bytes"]) == (OK, 2048)
    assert check_folder("cache", "cache.folder", tmp_path / "a" / "b", 1).verdict is OK
    full = check_folder("cache", "cache.folder", tmp_path, 2**60)
    assert (full.verdict, full.remedy) == (WARNING, "make room, or lower cache.disk_bytes")
    file = check_folder("cache", "cache.folder", tmp_path / "states" / "one" / "two", 1)
    assert (file.verdict, "is no folder" in file.message) == (FAILED, True)


def test_a_folder_that_cannot_be_written_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("argus.doctor.places.os.access", lambda path, mode: False)
    assert check_folder("cache", "cache.folder", tmp_path, 1).verdict is FAILED


def test_a_cache_server_that_is_away_is_one_line_without_its_password() -> None:
    pytest.importorskip("psycopg")
    config = CacheConfig(server="postgresql://me:secret@127.0.0.1:1/states")
    found = list(check_places(config, QualityConfig()))
    assert [finding.verdict for finding in found] == [OK, FAILED]
    assert "secret" not in found[1].message


def test_few_open_files_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("argus.doctor.places.resource.getrlimit", lambda which: (256, 4096))
    assert check_limits().verdict is WARNING


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((8, 9), ["sm_80", "sm_86", "sm_90"], True),
        ((8, 0), ["sm_86", "sm_90"], False),
        ((10, 0), ["sm_80", "sm_90"], False),
        ((10, 0), ["sm_80", "compute_90"], True),
        ((12, 0), ["sm_100", "sm_120a"], True),
        ((7, 0), ["sm_75", "compute_80"], False),
        ((9, 0), [], False),
    ],
)
def test_a_torch_runs_on_devices_that_it_was_built_for(
    capability: tuple[int, int], architectures: list[str], runs: bool
) -> None:
    assert runs_on(capability, architectures) is runs


def test_traces_that_would_not_arrive_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_tracing(TracingConfig()).message == "off"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = TracingConfig(f"http://127.0.0.1:{listener.getsockname()[1]}", 0.1)
        there = check_tracing(config)
    assert (there.verdict, there.message.startswith("10% of the requests to http://")) == (OK, True)
    assert check_tracing(config).verdict is WARNING
    monkeypatch.setattr("argus.doctor.traces.find_spec", lambda name: None)
    assert check_tracing(config).remedy == "pip install 'argus-serve[otel]'"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copytree(SMALL, tmp_path / "mine")
    return tmp_path / "mine"


def test_a_whole_folder_tells_family_and_size() -> None:
    found = check_model(SMALL, itemsize=4)
    assert found.verdict is OK
    assert (found.facts["variant"], found.facts["family"]) == (
        "scenes-small",
        "StableDiffusionPipeline",
    )
    assert check_model(SMALL, 2).facts["weights_bytes"] * 2 == found.facts["weights_bytes"]


def test_a_folder_whose_weights_are_cut_short_is_found_without_loading_it(copied: Path) -> None:
    (file,) = (copied / "unet").glob("*.safetensors")
    os.truncate(file, file.stat().st_size // 2)
    found = check_model(copied, 4)
    assert (found.verdict, f"unet/{file.name} cannot be read" in found.message) == (FAILED, True)


@pytest.mark.parametrize("part", ["unet", "tokenizer", "model_index.json"])
def test_a_folder_that_lacks_a_part_is_found(copied: Path, part: str) -> None:
    gone = copied / part
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    found = check_model(copied, 4)
    assert (found.verdict, part in found.message) == (FAILED, True)


def test_good_folders_are_told_from_bad_ones_and_names_from_each_other(copied: Path) -> None:
    other = copied.parent / "other" / "mine"
    shutil.copytree(SMALL, other)
    config = NodeConfig(models=(str(copied), str(other), "nowhere"), pinned=("yours",))
    found = list(check_models(config, 4, None))
    assert [finding.verdict for finding in found] == [OK, OK, FAILED, FAILED, FAILED, OK]
    said = " ".join(finding.message for finding in found)
    assert "two folders are named mine" in said
    assert "'yours' is none of mine" in said


def test_what_does_not_fit_is_parked_or_fails() -> None:
    one = check_model(SMALL, 4).facts["weights_bytes"]

    def room(budget: int, device_bytes: int | None = None) -> Verdict:
        config = NodeConfig(weights_bytes=budget)
        return list(check_models(config, 4, device_bytes))[-1].verdict

    assert room(100 * one) is OK
    assert room(0, 100 * one) is OK
    assert room(5 * one, 1) is WARNING, "the bundled base is about four times as large"
    assert room(one) is FAILED
    assert room(0, one) is FAILED


def test_files_that_the_settings_name_are_read(tmp_path: Path) -> None:
    assert {finding.verdict for finding in check_files(Config())} == {OK}
    coordinator = CoordinatorConfig(
        levels=str(tmp_path / "no.json"),
        predictor=str(tmp_path),
        policy="nobody",
        bind="0.0.0.0:7420",
    )
    found = {f.check: f for f in check_files(Config(coordinator=coordinator))}
    assert {name for name, f in found.items() if f.verdict is FAILED} == {
        "levels",
        "predictor",
        "policy",
        "doors",
    }
    assert "coordinator.levels: cannot read" in found["levels"].message
    assert "other machines can reach" in found["doors"].message
