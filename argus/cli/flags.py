"""Errors in the words of the command line: flags, not the fields they end up in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from argus.errors import InvalidArgumentError, NotFoundError, UnavailableError

FLAGS = {
    field: f"--{field.replace('_', '-')}"
    for field in (
        *("seed", "size", "steps", "guidance", "negative_prompt", "sampler", "variant", "level"),
        *("min_quality", "format", "request_id", "preview_every", "tenant"),
        *("eta", "guidance_rescale", "true_guidance"),
    )
} | {"deadline_s": "--deadline", "width": "--size", "height": "--size", "sizes": "--sizes"}
"""Flags by the field they end up in: of a request, or of what is to be measured."""


@contextmanager
def naming_flags() -> Iterator[None]:
    """Let errors that name a field of the request name its flag instead."""
    try:
        yield
    except InvalidArgumentError as error:
        raise InvalidArgumentError(_flag(error.field), error.description) from error
    except NotFoundError as error:
        raise NotFoundError(_flag(error.field), error.name, error.known) from error
    except UnavailableError as error:
        raise UnavailableError(str(error).replace("request_id=", "--request-id=")) from error


def _flag(field: str) -> str:
    return FLAGS.get(field, field)
