"""What the settings of a coordinator name: its levels and its policy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from argus.config import CoordinatorConfig
from argus.control import policies
from argus.control.fairness import Share, equal_shares
from argus.control.levels import LevelProfile, parse_profile
from argus.control.policy import Policy
from argus.errors import ConfigError, NotFoundError
from argus.models import bundled_dir

BUNDLED_LEVELS = "levels.json"


def load_profile(config: CoordinatorConfig) -> LevelProfile | None:
    """Return the configured level profile, the bundled family's, or None where there is none.

    Raises:
        ConfigError: the file cannot be read or is wrong.
    """
    path = Path(config.levels) if config.levels else bundled_dir() / BUNDLED_LEVELS
    if not config.levels and not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"coordinator.levels: cannot read {path}: {error}") from error
    return parse_profile(text, f"coordinator.levels: {path}")


def make_policy(name: str, share_of: Callable[[str], Share] = equal_shares) -> Policy:
    """Return the policy of that name.

    Args:
        name: of a policy.
        share_of: what each tenant is due; the re-implemented systems know no tenants.

    Raises:
        ConfigError: there is none; names those there are.
    """
    try:
        return policies.make(name, policies.PolicyOptions(share_of=share_of))
    except NotFoundError as error:
        raise ConfigError(f"coordinator.{error}") from error
