"""Who asks. The one place where callers are told apart."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from argus.errors import ArgusError
from argus.gateway.problems import answer

CALLER = "caller"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request comes from; `tenant` is what its images are made and cached for."""

    tenant: str = ""


def identify(headers: Headers, path: str) -> Caller:
    """Return who a request of these headers to `path` comes from.

    There are no keys yet: whatever `Authorization` says, everybody is nobody in particular.
    Raises UnauthenticatedError or PermissionDeniedError, which are answered as 401 and 403, once
    there are.
    """
    return Caller()


class Access:
    """Middleware that identifies every caller before anything else sees the request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note the caller in the scope."""
        if scope["type"] == "http":
            try:
                caller = identify(Headers(scope=scope), scope["path"])
            except ArgusError as error:
                await answer(error)(scope, receive, send)
                return
            scope.setdefault("state", {})[CALLER] = caller
        await self._app(scope, receive, send)


def caller_of(connection: HTTPConnection) -> Caller:
    """Return who sent a request that has passed `Access`."""
    caller: Caller = connection.scope["state"][CALLER]
    return caller
