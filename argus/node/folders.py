"""Which model folders a node serves; checked before torch is loaded, so a typo shows at once."""

from __future__ import annotations

from pathlib import Path

from argus.config import NodeConfig
from argus.diffusion.folder import pipeline_class
from argus.errors import ModelError
from argus.models import bundled_variants


def model_folders(config: NodeConfig) -> list[Path]:
    """Return the folders to load: those configured, or the bundled family.

    Raises:
        ModelError: a folder is missing or broken, its family is not served, two have one name.
    """
    folders = [Path(model) for model in config.models] or list(bundled_variants().values())
    if not folders:
        raise ModelError("no --model was given and this installation carries no bundled family")
    names: set[str] = set()
    for folder in folders:
        pipeline_class(folder)
        name = folder.resolve().name
        if name in names:
            raise ModelError(f"{folder}: a variant named {name!r} is already loaded")
        names.add(name)
    return folders
