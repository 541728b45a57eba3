"""The bundled text-to-image family: where its weights lie and what trained them.

Importing this package loads neither torch nor diffusers.
"""

from pathlib import Path

VARIANTS = ("scenes-base", "scenes-small")
SCORER = "scenes-clip"


def bundled_dir() -> Path:
    """Return the folder that holds the bundled weights."""
    return Path(__file__).resolve().parent / "weights"


def bundled_variants() -> dict[str, Path]:
    """Return the bundled pipeline folders that exist, best quality first."""
    folders = {name: bundled_dir() / name for name in VARIANTS}
    return {name: path for name, path in folders.items() if (path / "model_index.json").is_file()}
