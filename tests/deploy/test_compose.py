"""The compose file, held against the specification and against Argus."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from argus import __version__
from argus.cli.coordinator import HARD_END_S
from argus.config import Config, load_config
from argus.gateway.access import OPEN
from argus.node.health import NodeHealth
from argus.rpc.address import parse_address
from argus.rpc.health import SERVICES
from tests.deploy.command_line import DEPLOY, ROOT, parsed
from tests.unit.coordinator.bench import info
from tests.unit.node.test_health import Engine

FILE = DEPLOY / "compose" / "compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+)(?::([-+])([^${}]*))?\}")
GPUS = 8


def filled(text: str, environment: Mapping[str, str]) -> str:
    """Return a text with `${NAME}`, `${NAME:-else}` and `${NAME:+then}` filled as specified."""

    def value(match: re.Match[str]) -> str:
        found = environment.get(match[1], "")
        if match[2] == "+":
            return match[3] if found else ""
        return found or match[3] or ""

    while VARIABLE.search(text):
        text = VARIABLE.sub(value, text)
    assert "$" not in text, "not understood here"
    return text


def compose(**environment: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(filled(FILE.read_text(), environment))
    return found


def services(**environment: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose(**environment)["services"]
    return found


def role_of(service: Mapping[str, Any]) -> str:
    return str(service["command"][0])


@pytest.mark.parametrize("environment", [{}, {"MODEL": "sdxl", "MODELS_FOLDER": "/srv/models"}])
def test_the_file_is_one_by_the_specification(environment: dict[str, str]) -> None:
    resolved = yaml.safe_dump(compose(**environment))
    PyCompose.from_yaml(resolved).validate()


def test_the_specification_would_notice_a_field_that_does_not_exist() -> None:
    found = compose()
    found["services"]["gateway"]["prots"] = ["80:80"]
    with pytest.raises(ValueError, match="prots"):
        PyCompose.from_yaml(yaml.safe_dump(found))


def test_every_command_line_is_one_that_argus_takes() -> None:
    for name, service in services().items():
        role, options = parsed(service["command"])
        assert role in {"coordinator", "gateway", "node"}
        address = options.get("coordinator")
        if address is not None:
            host, port = parse_address(address, "x")
            bind = parsed(services()[host]["command"])[1]["bind"]
            assert port == parse_address(bind, "x")[1]
        if role == "node" and name != "cpu":
            assert options["name"] == name
            mounts = {volume["target"] for volume in service["volumes"]}
            assert str(options["cache_folder"]) in mounts


def test_variables_of_containers_are_settings() -> None:
    """And those of the file are not: argus would refuse them in the shell that has them."""
    for model, folders in (("", ()), ("sdxl", ("/models/sdxl",))):
        for service in services(MODEL=model).values():
            config = load_config(None, service.get("environment", {}))
            if role_of(service) == "node":
                assert config.node.models == folders
    assert not [v for v in VARIABLE.findall(FILE.read_text()) if v[0].startswith("ARGUS_")]


def test_health_checks_ask_what_is_really_served() -> None:
    known = {"gateway": OPEN, "node": set(NodeHealth(info(), Engine()).checks)}
    for service in services().values():
        how, *test = service["healthcheck"]["test"]
        assert how == "CMD"
        role = role_of(service)
        if test[0] == "argus":
            name, options = parsed(test[1:])
            assert (role, name) == ("coordinator", "health")
            assert options["service"] in SERVICES
            continue
        port, path = re.search(r"http://127.0.0.1:(\d+)(/\w+)", test[-1]).groups()
        compile(test[-1], "health check", "exec")
        assert path in known[role]
        own = (
            parsed(service["command"])[1]["http"]
            if role == "gateway"
            else service["environment"]["ARGUS_NODE_METRICS"]
        )
        assert int(port) == parse_address(own, "x")[1]


def test_each_gpu_has_a_node_of_its_own() -> None:
    found = {n: s for n, s in services().items() if "gpu" in s.get("profiles", ())}
    assert len(found) == GPUS
    taken = []
    for name, service in found.items():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
        assert name == f"gpu-{device['device_ids'][0]}"
        taken += device["device_ids"]
        assert service["image"].endswith("-cuda")
        assert service["build"]["dockerfile"].endswith(".cuda")
    assert sorted(taken) == [str(n) for n in range(GPUS)]


def test_nothing_is_open_but_the_gateway_on_this_machine() -> None:
    found = compose()
    assert found["networks"]["inside"]["internal"] is True
    for name, service in found["services"].items():
        assert (name == "gateway") == ("ports" in service)
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert (name == "gateway") == ("outside" in service["networks"])
    (port,) = found["services"]["gateway"]["ports"]
    assert port.startswith("127.0.0.1:")


def test_containers_have_time_to_end_and_files_to_be_built_from() -> None:
    for service in services().values():
        grace_s = getattr(Config(), role_of(service)).drain_grace_s
        assert float(service["stop_grace_period"].rstrip("s")) > grace_s + HARD_END_S
        assert (FILE.parent / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        assert service["image"].removesuffix("-cuda") == f"argus:{__version__}"
