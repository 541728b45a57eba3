"""The model folders that a node would serve: whole, of a known family, and small enough?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

from argus.config import NodeConfig
from argus.doctor.findings import Finding, failed, good, size, warning
from argus.errors import ModelError
from argus.node.folders import model_folders

CHECK = "model"


def check_models(config: NodeConfig, itemsize: int, device_bytes: int | None) -> Iterator[Finding]:
    """Check every folder by itself, then whether all of them fit.

    Args:
        config: the node's settings.
        itemsize: bytes of a weight in the dtype that they are loaded in.
        device_bytes: memory of the CUDA device; None on the CPU.
    """
    try:
        folders = model_folders(config)
    except ModelError as error:
        # Each by itself, to tell the good from the bad.
        folders = [Path(model) for model in config.models]
        if not folders:
            yield failed(CHECK, str(error), "name a folder with --model or node.models")
            return
    sizes: dict[Path, int] = {}
    for folder in folders:
        finding = check_model(folder, itemsize)
        yield finding
        if "weights_bytes" in finding.facts:
            sizes[folder] = finding.facts["weights_bytes"]
    names = [folder.resolve().name for folder in folders]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield failed(CHECK, f"two folders are named {name}", "rename one: it names the variant")
    for name in sorted(set(config.pinned) - set(names)):
        yield failed(CHECK, f"node.pinned: {name!r} is none of {', '.join(names)}", "correct it")
    if sizes:
        yield _room(sizes, config, device_bytes)


def check_model(folder: Path, itemsize: int) -> Finding:
    """Read all of a folder but its weights, and of those the headers."""
    from argus.diffusion.folder import own_defaults, pipeline_class
    from argus.diffusion.parts import named_parts
    from argus.diffusion.size import folder_weights_bytes
    from argus.diffusion.weights import weight_files

    try:
        family = pipeline_class(folder)
        own_defaults(folder)
        for name, kind in named_parts(folder).items():
            weight_files(folder, name, kind)
        nbytes = folder_weights_bytes(folder, itemsize)
    except ModelError as error:
        return failed(CHECK, str(error), "mend the folder, or take it out of the settings")
    name = folder.resolve().name
    said = f"{name}: {family}, {size(nbytes)} of weights once loaded ({folder})"
    facts = {"variant": name, "folder": str(folder), "family": family, "weights_bytes": nbytes}
    return good(CHECK, said, **facts)


def _room(sizes: dict[Path, int], config: NodeConfig, device_bytes: int | None) -> Finding:
    """Return whether all weights fit at once."""
    from argus.node.build import SHARE_OF_WEIGHTS

    total, largest = sum(sizes.values()), max(sizes.values())
    if device_bytes is None:
        budget = config.weights_bytes or psutil.virtual_memory().available
        where = "node.weights_bytes" if config.weights_bytes else "available memory"
    else:
        budget = config.weights_bytes or int(SHARE_OF_WEIGHTS * device_bytes)
        where = "node.weights_bytes" if config.weights_bytes else "four fifths of the device"
    said = f"all together {size(total)} of weights, {where} {size(budget)}"
    facts = {"total_bytes": total, "budget_bytes": budget}
    if largest > budget:
        return failed(CHECK, f"{said}; the largest does not fit", "serve smaller ones", **facts)
    if total > budget and device_bytes is None and not config.weights_bytes:
        return failed(CHECK, said, "set node.weights_bytes, or serve fewer", **facts)
    if total > budget:
        remedy = "rows wait while weights are moved in; serve fewer, or raise node.weights_bytes"
        return warning(CHECK, f"{said}; not all stay resident", remedy, **facts)
    return good(CHECK, said, **facts)
