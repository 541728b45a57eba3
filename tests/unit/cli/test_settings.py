"""Bad settings are bad arguments, named as the person gave them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from argus.cli.main import app
from argus.cli.settings import DEFAULTS, configure, naming_settings
from argus.errors import ConfigError, InvalidArgumentError


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"node.slots": 0}, "--slots: must be above 0, not 0"),
        ({"node.max_lanes": 1}, "--max-lanes: must be at least 2"),
        ({"node.dtype": "int8"}, "--dtype: must be auto, float32"),
        ({"quality.shadow_share": 1.5}, "--shadow-share: must be 0 … 1"),
        ({"quality.scorer": "pixels"}, "--scorer: must be facts, clip"),
        ({"quality.shadow_in_flight": 0}, "--shadow-in-flight: must be at least 1"),
        ({"quality.live_rows": 3}, "--live-rows: must be at least 4"),
        ({"log.level": "loud"}, "--log-level: must be debug"),
        ({"log.format": "xml"}, "--log-format: must be text or json"),
        ({"coordinator.bind": "nowhere"}, "--bind: must be HOST:PORT"),
        ({"node.coordinator": "h:99999"}, "--coordinator: must be HOST:PORT"),
    ],
)
def test_a_bad_flag_is_named_as_it_was_given(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        configure(None, flags)
    assert str(caught.value).startswith(message)


def test_a_bad_setting_of_the_file_keeps_its_name(tmp_path: Path) -> None:
    file = tmp_path / "argus.toml"
    file.write_text("[node]\nslots = 0\n")
    with pytest.raises(InvalidArgumentError, match=r"^node\.slots: must be above 0"):
        configure(file, {"node.slots": None, "node.max_lanes": 4})


def test_a_bad_variable_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGUS_NODE_SLOTS", "many")
    with pytest.raises(InvalidArgumentError, match=r"^ARGUS_NODE_SLOTS: int needed"):
        configure(None, {})


def test_what_is_found_out_late_is_named_after_its_flag_too() -> None:
    with (
        pytest.raises(InvalidArgumentError, match="^--device: no CUDA"),
        naming_settings({"node.device": "cuda"}),
    ):
        raise ConfigError("node.device: no CUDA device is to be had here")


@pytest.mark.parametrize(
    ("command", "defaults"),
    [
        ("coordinator", [DEFAULTS.coordinator.bind, "the bundled family's", DEFAULTS.log.level]),
        ("node", [DEFAULTS.node.coordinator, str(DEFAULTS.node.slots), DEFAULTS.node.device]),
        ("generate", ["the variant's own", "argus-SEED.png", "`argus status`"]),
    ],
)
def test_help_tells_the_defaults(command: str, defaults: list[str]) -> None:
    shown = " ".join(CliRunner().invoke(app, [command, "--help"]).stdout.split())
    for default in defaults:
        assert default in shown
