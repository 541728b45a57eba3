"""Options of node daemons on Ray: what is refused, and how it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from argus.cli import ray as command
from tests.unit.cli.running import Here


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ray-cpus", "2"], "--ray-cpus: needs --ray"),
        (["--advertise", "h"], "--advertise: needs --ray"),
        (["--ray", "local"], "--ray: must be auto, HOST:PORT or ray://HOST:PORT, not 'local'"),
        (["--ray", "auto", "--device", "cpu"], "--device: is Ray's to choose"),
        (["--ray", "auto", "--model", "models/a"], "--model: must be absolute"),
    ],
)
async def test_up_names_the_flag_that_is_wrong(
    here: Here, arguments: list[str], message: str
) -> None:
    said = await here("up", *arguments)
    assert (said.code, said.stdout) == (2, b"")
    assert said.stderr.startswith(f"argus: {message}")


async def test_settings_of_the_file_keep_their_names(here: Here, tmp_path: Path) -> None:
    file = tmp_path / "argus.toml"
    file.write_text("[ray]\naddress = 'nowhere'\n")
    said = await here("up", "--config", str(file))
    assert (said.code, said.stdout) == (2, b"")
    assert said.stderr.startswith("argus: ray.address: must be auto")
    file.write_text("[ray]\ncpus = -1\n")
    said = await here("ray", "--config", str(file))
    assert said.stderr == "argus: ray.cpus: must not be below 0, not -1\n"


async def test_the_address_of_the_cluster_is_needed(here: Here) -> None:
    said = await here("ray")
    assert (said.code, said.stderr) == (2, "argus: ray.address: is needed, or --ray\n")


@pytest.mark.parametrize("name", ["up", "ray"])
async def test_without_ray_it_is_said_how_to_get_it(
    here: Here, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda package: None)
    said = await here(name, "--ray", "auto")
    assert (said.code, said.stdout) == (1, b"")
    assert said.stderr == "argus: Ray is not installed: pip install 'argus-serve[ray]'\n"
