"""Which predictor of quality a coordinator uses."""

from __future__ import annotations

import logging
from pathlib import Path

from argus.config import CoordinatorConfig
from argus.control.learned.files import ARRAYS, JSON, parse_predictor
from argus.control.predictor import LevelMeans, QualityPredictor
from argus.errors import ConfigError
from argus.models import bundled_dir

log = logging.getLogger(__name__)

BUNDLED_PREDICTOR = "predictor"
"""Folder beside the bundled family."""


def load_predictor(config: CoordinatorConfig) -> QualityPredictor:
    """Return the configured predictor, the bundled family's, or the levels' means.

    Of levels that the bundled family's predictor does not know only the means are known, so with
    another family it is the same as none.

    Raises:
        ConfigError: a file cannot be read or is wrong.
    """
    folder = Path(config.predictor) if config.predictor else bundled_dir() / BUNDLED_PREDICTOR
    if not config.predictor and not (folder / JSON).is_file():
        return LevelMeans()
    try:
        text = (folder / JSON).read_text(encoding="utf-8")
        arrays = (folder / ARRAYS).read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"coordinator.predictor: cannot read {folder}: {error}") from error
    predictor = parse_predictor(text, arrays, f"coordinator.predictor: {folder}")
    log.info(
        "quality is predicted by %s, fitted to profile %s", predictor.model.kind, predictor.profile
    )
    return predictor
