"""The cost part of a profile: what variants were measured to cost on one device.

`argus profile` writes it, docs/profile.md describes the file.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

from argus.control.fields import Fields
from argus.errors import ConfigError
from argus.types import StepCosts

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a reader needs to know to judge the numbers.

    Attributes:
        date: UTC, ISO 8601 to the second.
        command: what made the file.
        device: such as cpu or cuda:0.
        device_name: as people know it.
        memory_bytes: of the device.
        threads: compute threads on the CPU.
        dtype: of weights and activations.
        system: operating system and processor architecture.
        bytes_measured: how bytes were measured, or why they could not be.
        versions: by name of the package.
    """

    date: str
    command: str
    device: str
    device_name: str
    memory_bytes: int
    threads: int
    dtype: str
    system: str
    bytes_measured: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StateCosts:
    """One latent state: its size, and seconds to copy it from and to the device."""

    state_bytes: int
    to_host_s: float
    to_device_s: float


@dataclass(frozen=True, slots=True)
class SizeCosts:
    """What a variant costs at one size of picture.

    Attributes:
        width, height: pixels.
        steps: seconds of one step by lanes; a guided row has two, one without guidance has one.
        step_peak_bytes: for each lane count of `steps`, the most that a step takes beyond what
            was held before it; None where it could not be measured.
        decode_s: seconds from latents to pixels, one picture.
        decode_peak_bytes: as for steps.
        compress_s: seconds from pixels to a file's bytes, by format.
        state: the copies.
    """

    width: int
    height: int
    steps: StepCosts
    step_peak_bytes: tuple[int | None, ...]
    decode_s: float
    decode_peak_bytes: int | None
    compress_s: Mapping[str, float]
    state: StateCosts


@dataclass(frozen=True, slots=True)
class VariantProfile:
    """What one variant costs.

    Attributes:
        name: of its folder.
        pipeline: family.
        load_s: seconds from the folder to a variant on the device.
        weights_bytes: what it takes there; None where it could not be measured.
        text_encode_s: seconds to encode one prompt.
        exact: whether a lane's output is bitwise the same at every lane count of the profile.
        sizes: the native size first.
    """

    name: str
    pipeline: str
    load_s: float
    weights_bytes: int | None
    text_encode_s: float
    exact: bool
    sizes: tuple[SizeCosts, ...]


@dataclass(frozen=True, slots=True)
class CostProfile:
    """Variants measured one after the other on one device."""

    circumstances: Circumstances
    variants: tuple[VariantProfile, ...]

    def to_json(self) -> str:
        """Return the file's content."""
        return json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}, indent=2) + "\n"

    @staticmethod
    def from_json(text: str, source: str) -> CostProfile:
        """Return the profile in a file's content.

        Args:
            text: the content.
            source: what to call the file in messages.

        Raises:
            ConfigError: names the source and the field that is wrong.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{source}: not JSON: {error}") from error
        if isinstance(data, dict) and data.get("schema", SCHEMA) != SCHEMA:
            raise ConfigError(f"{source}: schema: {SCHEMA} is read here, not {data['schema']!r}")
        fields = Fields(source, "", data, ("schema", *_names(CostProfile)))
        fields.whole("schema")
        return CostProfile(
            _circumstances(fields.inner("circumstances", _names(Circumstances))),
            tuple(_variant(v) for v in fields.inners("variants", _names(VariantProfile))),
        )


def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def _circumstances(fields: Fields) -> Circumstances:
    return Circumstances(
        date=fields.text("date"),
        command=fields.text("command"),
        device=fields.text("device"),
        device_name=fields.text("device_name"),
        memory_bytes=fields.whole("memory_bytes"),
        threads=fields.whole("threads"),
        dtype=fields.text("dtype"),
        system=fields.text("system"),
        bytes_measured=fields.text("bytes_measured"),
        versions=fields.texts("versions"),
    )


def _variant(fields: Fields) -> VariantProfile:
    return VariantProfile(
        name=fields.text("name"),
        pipeline=fields.text("pipeline"),
        load_s=fields.number("load_s"),
        weights_bytes=fields.whole_or_none("weights_bytes"),
        text_encode_s=fields.number("text_encode_s"),
        exact=fields.flag("exact"),
        sizes=tuple(_size(size) for size in fields.inners("sizes", _names(SizeCosts))),
    )


def _size(fields: Fields) -> SizeCosts:
    steps = _steps(fields)
    peaks = fields.wholes_or_none("step_peak_bytes")
    if len(peaks) != len(steps.lanes):
        raise ConfigError(
            f"{fields.at('step_peak_bytes')}: one for each of {len(steps.lanes)} lane counts is "
            f"needed, not {len(peaks)}"
        )
    state = fields.inner("state", _names(StateCosts))
    return SizeCosts(
        width=fields.whole("width"),
        height=fields.whole("height"),
        steps=steps,
        step_peak_bytes=peaks,
        decode_s=fields.number("decode_s"),
        decode_peak_bytes=fields.whole_or_none("decode_peak_bytes"),
        compress_s=fields.named_numbers("compress_s"),
        state=StateCosts(
            state_bytes=state.whole("state_bytes"),
            to_host_s=state.number("to_host_s"),
            to_device_s=state.number("to_device_s"),
        ),
    )


def _steps(fields: Fields) -> StepCosts:
    steps = fields.inner("steps", _names(StepCosts))
    try:
        return StepCosts(steps.wholes("lanes"), steps.numbers("seconds"))
    except ValueError as error:
        raise ConfigError(f"{fields.at('steps')}: {error}") from error
