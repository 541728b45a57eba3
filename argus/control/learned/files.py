"""A fitted predictor as two files: `predictor.json` says what it is, `predictor.safetensors` holds
its arrays. Here is their content; who reads and writes files passes it on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from argus.control.fields import Fields
from argus.control.learned.bounds import Bounds
from argus.control.learned.domain import Domain
from argus.control.learned.features import Features, Lexicon, Projection
from argus.control.learned.fitted import FittedPredictor
from argus.control.learned.models import KINDS, Model, arrays_of
from argus.control.learned.order import Chain
from argus.control.learned.shapes import check_shapes
from argus.errors import ConfigError
from argus.types import Level

SCHEMA = 1
JSON, ARRAYS = "predictor.json", "predictor.safetensors"
_TOP = ("schema", "kind", "profile", "embedder", "dimension", "coverage", "levels", "lexicon")
_KNOWN = (*_TOP, "domain", "chains", "details")
_LEVEL = tuple(field.name for field in fields(Level))

Arrays = dict[str, NDArray[np.generic]]


def predictor_files(predictor: FittedPredictor) -> tuple[str, bytes]:
    """Return the content of the two files, JSON and safetensors."""
    from safetensors.numpy import save

    lexicon, domain = predictor.features.lexicon, predictor.domain
    content = {
        "schema": SCHEMA,
        "kind": predictor.model.kind,
        "profile": predictor.profile,
        "embedder": predictor.embedder,
        "dimension": predictor.dimension,
        "coverage": predictor.coverage,
        "levels": [asdict(level) for level in predictor.levels],
        "lexicon": {
            "words": list(lexicon.words),
            "classes": {name: sorted(words) for name, words in lexicon.classes.items()},
            "known": sorted(lexicon.known),
        },
        "domain": {
            "most_characters": domain.most_characters,
            "least_known": domain.least_known,
            "least_cosine": domain.least_cosine,
        },
        "chains": predictor.chains,
        "details": predictor.details,
    }
    arrays: Arrays = {f"model.{k}": v for k, v in arrays_of(predictor.model).items()}
    arrays |= {f"bounds.{f.name}": getattr(predictor.bounds, f.name) for f in fields(Bounds)}
    arrays["worst"] = predictor.worst
    if predictor.features.projection is not None:
        arrays["projection.mean"] = predictor.features.projection.mean
        arrays["projection.axes"] = predictor.features.projection.axes
    if domain.embeddings is not None:
        arrays["domain.embeddings"] = domain.embeddings
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    return text, save({name: np.ascontiguousarray(a) for name, a in arrays.items()})


def parse_predictor(text: str, arrays: bytes, source: str) -> FittedPredictor:
    """Return the predictor in the content of the two files.

    Args:
        text: of predictor.json.
        arrays: of predictor.safetensors.
        source: what to call their folder in messages.

    Raises:
        ConfigError: names the source, the file and the field or array that is wrong.
    """
    where = f"{source}/{JSON}"
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON: {error}") from error
    top = Fields(where, "", data, _KNOWN)
    if (schema := top.whole("schema")) != SCHEMA:
        raise ConfigError(f"{where}: schema: {SCHEMA} is read here, not {schema}")
    found = _Arrays(f"{source}/{ARRAYS}", arrays)
    embedder, dimension = _embedder(where, top)
    levels = tuple(_level(level) for level in top.inners("levels", _LEVEL))
    features = Features(_lexicon(top), found.projection(bool(embedder)), levels)
    predictor = FittedPredictor(
        profile=top.text("profile"),
        embedder=embedder,
        dimension=dimension,
        coverage=top.number("coverage", 1.0),
        features=features,
        domain=_domain(top, found.take("domain.embeddings") if embedder else None),
        model=found.model(where, top.text("kind")),
        bounds=Bounds(**{f.name: found.take(f"bounds.{f.name}") for f in fields(Bounds)}),
        worst=found.take("worst"),
        chains=_chains(where, top, len(levels)),
        details=_object(where, top, "details"),
    )
    found.end()
    check_shapes(predictor, f"{source}/{ARRAYS}")
    return predictor


class _Arrays:
    """The arrays of a file, each taken once."""

    def __init__(self, source: str, content: bytes) -> None:
        from safetensors import SafetensorError
        from safetensors.numpy import load

        self._source = source
        try:
            self._arrays: Arrays = load(content)
        except SafetensorError as error:
            raise ConfigError(f"{source}: not a safetensors file: {error}") from error

    def take(self, name: str, kind: type = np.float64) -> NDArray[Any]:
        array = self._arrays.pop(name, None)
        if array is None:
            raise ConfigError(f"{self._source}: {name}: missing")
        if array.dtype != kind:
            raise ConfigError(f"{self._source}: {name}: {kind.__name__} needed, not {array.dtype}")
        return array

    def model(self, where: str, kind: str) -> Model:
        if kind not in KINDS:
            raise ConfigError(f"{where}: kind: must be {', '.join(KINDS)}, not {kind!r}")
        cls: Any = KINDS[kind]
        return cls(  # type: ignore[no-any-return]
            **{
                f.name: self.take(f"model.{f.name}", np.int64 if f.type == "Whole" else np.float64)
                for f in fields(cls)
            }
        )

    def projection(self, there: bool) -> Projection | None:
        if not there:
            return None
        return Projection(self.take("projection.mean"), self.take("projection.axes"))

    def end(self) -> None:
        if self._arrays:
            raise ConfigError(f"{self._source}: {next(iter(self._arrays))}: unknown array")


def _embedder(where: str, top: Fields) -> tuple[str, int]:
    name = top.value("embedder")
    if not isinstance(name, str):
        raise ConfigError(f"{top.at('embedder')}: text is needed, not {name!r}")
    return name, top.whole("dimension", 1 if name else 0)


def _level(row: Fields) -> Level:
    skip = row.value("skip_fraction")
    return Level(
        name=row.text("name"),
        variant=row.text("variant"),
        steps_fraction=row.number("steps_fraction", 1.0),
        quality=row.number("quality"),
        skip_fraction=row.number("skip_fraction", 1.0) if skip else 0.0,
    )


def _lexicon(top: Fields) -> Lexicon:
    row = top.inner("lexicon", ("words", "classes", "known"))
    classes = row.value("classes")
    if not isinstance(classes, dict):
        raise ConfigError(f"{row.at('classes')}: an object is needed")
    inner = Fields(row.at("classes"), "", classes, tuple(classes))
    return Lexicon(
        _words(row, "words"),
        {name: frozenset(_words(inner, name)) for name in classes},
        frozenset(_words(row, "known")),
    )


def _words(row: Fields, name: str) -> tuple[str, ...]:
    words = row.value(name)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ConfigError(f"{row.at(name)}: a list of words is needed")
    return tuple(words)


def _domain(top: Fields, embeddings: NDArray[Any] | None) -> Domain:
    row = top.inner("domain", ("most_characters", "least_known", "least_cosine"))
    least = {}
    for name in ("least_known", "least_cosine"):
        value = row.value(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1 <= value <= 1:
            raise ConfigError(f"{row.at(name)}: must be within -1 … 1, not {value!r}")
        least[name] = float(value)
    return Domain(row.whole("most_characters"), **least, embeddings=embeddings)


def _chains(where: str, top: Fields, count: int) -> tuple[Chain, ...]:
    chains = top.value("chains")
    try:
        read = tuple(tuple(tuple(block) for block in chain) for chain in chains)
    except TypeError as error:
        raise ConfigError(f"{top.at('chains')}: lists of lists of lists are needed") from error
    places = [i for chain in read for block in chain for i in block]
    if not all(type(i) is int and 0 <= i < count for i in places) or not all(
        block for chain in read for block in chain
    ):
        raise ConfigError(f"{top.at('chains')}: blocks of places of levels, 0 to {count - 1}")
    return read


def _object(where: str, top: Fields, name: str) -> Mapping[str, Any]:
    value = top.value(name)
    if not isinstance(value, dict):
        raise ConfigError(f"{top.at(name)}: an object is needed")
    return value
