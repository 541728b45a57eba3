"""The one exception tree. `argus.rpc.status` maps it to gRPC status and back."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class ArgusError(Exception):
    """Base of everything Argus raises on purpose; `str()` is fit to be shown to a person."""


class InvalidArgumentError(ArgusError):
    """A field holds a value that is not allowed.

    Attributes:
        field: name of the field as the caller wrote it.
        description: what is wrong and what would be right.
    """

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


class NotFoundError(ArgusError):
    """Something asked for by name does not exist.

    Attributes:
        field: name of the field that held the name.
        name: the name asked for.
        known: names that exist.
    """

    def __init__(self, field: str, name: str, known: Iterable[str]) -> None:
        self.field = field
        self.name = name
        self.known = tuple(known)
        near = get_close_matches(name, self.known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        listed = ", ".join(self.known) or "none"
        super().__init__(f"{field}: unknown {name!r}{hint}; known: {listed}")


class AlreadyExistsError(ArgusError):
    """A name is taken."""


class FailedPreconditionError(ArgusError):
    """The call is right but the state of the system forbids it."""


class OverloadedError(ArgusError):
    """No room, or no level could be on time.

    Attributes:
        retry_after_s: seconds after which a retry has a chance.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaError(OverloadedError):
    """A tenant is at one of its limits; there may be room for others.

    Attributes:
        limit: name of the limit.
        tenant: whose it is.
    """

    def __init__(self, message: str, limit: str, tenant: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s)
        self.limit = limit
        self.tenant = tenant


class UnavailableError(ArgusError):
    """The service, or every node that could help, cannot be reached now."""


class DeadlineError(ArgusError):
    """The deadline passed, or can no longer be met."""


class CancelledError(ArgusError):
    """The caller gave the request up."""


class InternalError(ArgusError):
    """A fault of Argus, of a device or of a model, not of the caller."""


class UnauthenticatedError(ArgusError):
    """No valid credentials were presented."""


class PermissionDeniedError(ArgusError):
    """The credentials do not allow this."""


class ConfigError(ArgusError):
    """A setting is missing, unknown or out of range; names the setting."""


class ModelError(ArgusError):
    """A model folder cannot be served; names the folder and the reason."""
