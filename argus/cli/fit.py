"""`argus fit`: a predictor of quality, learned from a profile."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated

import typer

from argus.cli.settings import ConfigFlag, JsonFlag, configure
from argus.errors import FailedPreconditionError, InvalidArgumentError

PROFILE, OUT, EMBEDDER, LIVE = "--profile", "--out", "--embedder", "--from-live"


def fit(
    profile: Annotated[
        Path, typer.Option(PROFILE, help="Folder that argus profile --prompts wrote.")
    ],
    out: Annotated[Path, typer.Option(OUT, help="Folder to write the predictor to.")],
    embedder: Annotated[
        str | None,
        typer.Option(
            EMBEDDER,
            help="Folder of the text encoder that the cluster's cache uses, or none. "
            "Default: the bundled family's.",
        ),
    ] = None,
    from_live: Annotated[
        Path | None,
        typer.Option(
            LIVE,
            help="Folder where a coordinator keeps scores of live requests (quality.live_folder), "
            "to learn from as well. Default: none.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of folds and of what is drawn.")] = 0,
    config: ConfigFlag = None,
    json: JsonFlag = False,
) -> None:
    """Learn from a profile how good each prompt's picture will be at each level.

    Several kinds of model are compared on the train prompts, the best is fitted, calibrated on the
    calibration prompts and judged on the test prompts; docs/quality.md says how to read what is
    printed. The profile's report gets sections on the predictor.
    """
    if not profile.is_dir():
        raise InvalidArgumentError(PROFILE, f"{profile} is no folder")
    if from_live is not None and not from_live.is_dir():
        raise InvalidArgumentError(LIVE, f"{from_live} is no folder")
    named = None if embedder == "none" else embedder
    settings = configure(config, {"cache.embedder": named})
    # Seconds of imports that nobody should wait for when an argument is wrong.
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise FailedPreconditionError(
            "argus fit needs scikit-learn: pip install 'argus-serve[quality]'"
        ) from error
    import torch

    from argus.coordinator.embedder import open_embedder
    from argus.models import bundled_variants
    from argus.quality.fit.command import fit_and_judge, write_predictor
    from argus.quality.fit.features import bundled_classes
    from argus.quality.fit.folder import read_profile
    from argus.quality.fit.sections import place_sections, predictor_sections
    from argus.quality.profile import REPORT

    torch.set_num_threads(1)
    encoder = None if embedder == "none" else open_embedder(settings.cache)
    data = read_profile(profile, encoder, from_live, _say)
    bundled = {level.variant for level in data.levels} <= set(bundled_variants())
    predictor = fit_and_judge(data, bundled_classes() if bundled else {}, _say, seed)
    written = list(write_predictor(out, predictor))
    report = profile / REPORT
    if report.is_file():
        sections = predictor_sections(predictor.model.kind, predictor.details)
        page = place_sections(report.read_text(encoding="utf-8"), sections)
        report.write_text(page, encoding="utf-8")
        written.append(report)
    if json:
        files = [str(path) for path in written]
        print(json_module.dumps({"model": predictor.model.kind, "files": files}))
        return
    for path in written:
        print(path)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
