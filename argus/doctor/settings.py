"""The settings, and the files that they name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from argus.clock import MonotonicClock
from argus.config import Config
from argus.doctor.findings import Finding, failed, good
from argus.errors import ArgusError
from argus.rpc.dial import dialling

CHECK = "settings"


def check_sources(file: Path | None, error: ArgusError | None) -> Finding:
    """Return where the settings come from, or what is wrong with them.

    Args:
        file: that was named.
        error: why it, a variable or a flag cannot be used.
    """
    variables = sorted(name for name in os.environ if name.startswith("ARGUS_"))
    if error is not None:
        return failed(CHECK, str(error), "correct it; the rest is checked with defaults")
    parts = [str(file)] if file is not None else []
    parts += [", ".join(variables)] if variables else []
    said = " and ".join(parts) or "defaults; no --config was given and no ARGUS_ variable is set"
    return good(CHECK, said, file=None if file is None else str(file), variables=variables)


def check_files(config: Config) -> Iterator[Finding]:
    """Read what the settings name as the daemons would, and check who may reach them."""
    from argus.coordinator.named import load_profile, make_policy
    from argus.coordinator.predictors import load_predictor
    from argus.coordinator.security import open_security

    clock = MonotonicClock()
    parts: dict[str, Callable[[], object]] = {
        "levels": lambda: load_profile(config.coordinator),
        "predictor": lambda: load_predictor(config.coordinator),
        "policy": lambda: make_policy(config.coordinator.policy),
        "doors": lambda: open_security(config, clock),
        "dialling": lambda: _dial(config),
    }
    for name, read in parts.items():
        try:
            read()
        except ArgusError as error:
            yield failed(name, str(error), "correct the setting, or the file that it names")
        else:
            yield good(name, _described(name, config))


def _dial(config: Config) -> None:
    shown = dialling(config.tls, config.auth)
    shown.check(config.node.coordinator)
    if shown.tls is not None:
        shown.tls.credentials()


def _described(name: str, config: Config) -> str:
    coordinator = config.coordinator
    if name == "levels":
        return coordinator.levels or "those of the bundled family"
    if name == "predictor":
        return coordinator.predictor or "that of the bundled family"
    if name == "policy":
        return coordinator.policy
    if name == "doors":
        tls = "TLS" if config.tls.certificate else "no TLS"
        keys = "keys" if config.auth.keys else "no keys"
        return f"{tls} and {keys} at {coordinator.bind}"
    tls = "TLS" if config.tls.ca else "no TLS"
    key = "a key" if config.auth.api_key or config.auth.api_key_file else "no key"
    return f"{config.node.coordinator} with {tls} and {key}"
