"""Who asks. The one place where callers are told apart."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from argus.auth.keys import NO_KEY, KeyRing, Role
from argus.errors import ArgusError, PermissionDeniedError, UnauthenticatedError
from argus.gateway import pages
from argus.gateway.problems import answer

CALLER = "caller"
READING = ("GET", "HEAD")
OPEN = {"/healthz", "/livez", "/openapi.json"} | {f"/{name}" for name in pages.TYPES}
"""Open to everyone: probes have no keys, and the files say nothing that the source does not."""
CHALLENGED = "/"
"""Where a browser is asked for a key, which it then sends along with everything of the page."""
BROWSER = {"WWW-Authenticate": 'Basic realm="argus: any name, and a key as password"'}
_RULES = {
    "/v1/images/generations": frozenset({Role.CLIENT}),
    "/v1/models": frozenset({Role.CLIENT, Role.OPERATOR}),
    "/metrics": frozenset({Role.OPERATOR}),
    "/api/status": frozenset({Role.OPERATOR}),
    "/api/events": frozenset({Role.OPERATOR}),
    CHALLENGED: frozenset({Role.OPERATOR}),
}


def roles_for(path: str) -> frozenset[Role] | None:
    """Return the roles of which a caller of `path` needs one, or None where nobody is asked.

    What is below a path wants what the path wants; for a path without a rule any key will do, and
    none would open it.
    """
    if path in OPEN:
        return None
    parent = path.rpartition("/")[0]
    return _RULES.get(path) or _RULES.get(parent) or frozenset(Role)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request comes from; `tenant` is what its images are made and cached for."""

    tenant: str = ""


Keys = Callable[[], KeyRing]


def identify(headers: Headers, method: str, path: str, keys: Keys | None) -> Caller:
    """Return who a request comes from.

    Args:
        headers: of the request.
        method: of the request.
        path: asked for.
        keys: returns those that are known; None: nobody is asked.

    Raises:
        UnauthenticatedError: no valid key was shown.
        PermissionDeniedError: the key is not for this.
    """
    roles = roles_for(path)
    if keys is None or roles is None:
        return Caller()
    identity = keys().check(_key_in(headers, method), time.time())
    if not identity.may(roles):
        wanted = " or ".join(sorted(role.value for role in roles))
        raise PermissionDeniedError(f"API key {identity.key_id} is not for {path}: {wanted} only")
    return Caller(identity.tenant_of(""))


def _key_in(headers: Headers, method: str) -> str:
    """Return the key that a request carries; empty where there is none.

    Browsers send what they were once told to wherever a page of another site points them, so
    that form is taken only for reading, and for what a page of our own sends.

    Raises:
        UnauthenticatedError: it is in no form that is understood here.
    """
    found = headers.getlist("authorization")
    if not found:
        return ""
    scheme, _, text = found[0].partition(" ")
    if len(found) == 1 and scheme.lower() == "bearer":
        return text.strip()
    ours = method in READING or headers.get("sec-fetch-site") == "same-origin"
    if len(found) == 1 and scheme.lower() == "basic" and ours:
        try:
            return base64.b64decode(text, validate=True).decode("ascii").partition(":")[2]
        except (binascii.Error, ValueError) as error:
            raise UnauthenticatedError(NO_KEY) from error
    raise UnauthenticatedError(f"{NO_KEY}: Authorization: Bearer KEY, once")


class Access:
    """Middleware that identifies every caller before anything else sees the request."""

    def __init__(self, app: ASGIApp, keys: Keys | None = None) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note the caller in the scope."""
        if scope["type"] == "http":
            path = scope["path"]
            try:
                caller = identify(Headers(scope=scope), scope["method"], path, self._keys)
            except ArgusError as error:
                asked = isinstance(error, UnauthenticatedError) and path == CHALLENGED
                await answer(error, BROWSER if asked else None)(scope, receive, send)
                return
            scope.setdefault("state", {})[CALLER] = caller
        await self._app(scope, receive, send)


def caller_of(connection: HTTPConnection) -> Caller:
    """Return who sent a request that has passed `Access`."""
    caller: Caller = connection.scope["state"][CALLER]
    return caller
