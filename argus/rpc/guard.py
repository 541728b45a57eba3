"""Who may call what: one interceptor asks every caller for a key and holds RULES against it."""

from __future__ import annotations

import contextvars
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc

from argus.auth.keys import ANYBODY, NO_KEY, Identity, KeyRing
from argus.errors import (
    ArgusError,
    InvalidArgumentError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from argus.rpc.dial import AUTHORIZATION, BEARER
from argus.rpc.remade import Remade
from argus.rpc.rules import RULES, Rule
from argus.rpc.utf8 import MalformedRequest

log = logging.getLogger(__name__)

Handler = Any
UNKNOWN = Rule(frozenset())
"""Of methods without a rule: nobody has the role for them."""
LOG_EVERY_S = 1.0

_caller: contextvars.ContextVar[Identity] = contextvars.ContextVar("caller")


def caller() -> Identity:
    """Return who makes the call that is being handled.

    Raises:
        LookupError: the handler was not called through a Guard; nobody is let in by mistake.
    """
    return _caller.get()


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Lets in whom the rules let in, and keeps requests within their bytes.

    A caller that is refused is answered before its request is read. Errors are raised where the
    error interceptor, which must stand before this one, maps them.

    Args:
        keys: returns the keys at a time of `now_s`; None: nobody is asked for one.
        now_s: monotonic seconds, for `keys`.
        now_unix_s: the time that keys expire by.
    """

    def __init__(
        self,
        keys: Callable[[float], KeyRing] | None = None,
        now_s: Callable[[], float] = time.monotonic,
        now_unix_s: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._now_s = now_s
        self._now_unix_s = now_unix_s
        self._logged_s = -LOG_EVERY_S
        self._unlogged = 0
        self._within = Remade(_within)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the handler of the call, or one that refuses it."""
        method = str(handler_call_details.method)
        try:
            _caller.set(self._let_in(method, handler_call_details.invocation_metadata or ()))
        except ArgusError as error:
            self._log(method, error)
            return refusal(error)
        handler = await continuation(handler_call_details)
        if handler is None or method not in RULES:
            return handler
        return self._within(handler, method)

    def still_holds(self, identity: Identity) -> bool:
        """Return whether a call that was let in as `identity` would be let in now."""
        if self._keys is None:
            return True
        return self._keys(self._now_s()).still_holds(identity, self._now_unix_s())

    def _let_in(self, method: str, metadata: Iterable[tuple[str, Any]]) -> Identity:
        """Return who calls.

        Raises:
            UnauthenticatedError: no valid key was shown.
            PermissionDeniedError: the key is not for this.
        """
        rule = RULES.get(method, UNKNOWN)
        if self._keys is None or rule.roles is None:
            return ANYBODY
        key = _key_in(metadata)
        identity = self._keys(self._now_s()).check(key, self._now_unix_s())
        if not identity.may(rule.roles):
            wanted = " or ".join(sorted(role.value for role in rule.roles))
            needs = f"; it needs the role {wanted}" if wanted else ""
            raise PermissionDeniedError(f"API key {identity.key_id} is not for {method}{needs}")
        return identity

    def _log(self, method: str, error: ArgusError) -> None:
        """Log a refusal; whoever tries without end gets one line a second."""
        now_s = self._now_s()
        if now_s - self._logged_s < LOG_EVERY_S:
            self._unlogged += 1
            return
        more = f" ({self._unlogged} more since the last such line)" if self._unlogged else ""
        log.warning("%s refused: %s%s", method, error, more)
        self._logged_s, self._unlogged = now_s, 0


def _key_in(metadata: Iterable[tuple[str, Any]]) -> str:
    """Return the key that a call carries; empty where there is none.

    Raises:
        UnauthenticatedError: there are several, or something else.
    """
    found = [value for name, value in metadata if name == AUTHORIZATION]
    if not found:
        return ""
    scheme, _, key = str(found[0]).partition(" ")
    if len(found) > 1 or scheme.lower() != BEARER or not key:
        raise UnauthenticatedError(f"{NO_KEY}: {AUTHORIZATION}: Bearer KEY, once")
    return key.strip()


def refusal(error: ArgusError) -> Handler:
    """Return a handler that raises `error` at once.

    Whatever the method is, it is one that reads a stream: such a handler is called before a
    message has come, and of a caller that is refused nothing is read into memory.
    """

    async def refuse(requests: Any, context: Any) -> None:
        raise error

    return grpc.stream_stream_rpc_method_handler(refuse)


def _within(handler: Handler, method: str) -> Handler:
    """Return the handler with requests that RULES call too long refused before they are parsed."""
    most = RULES[method].request_bytes
    parse = handler.request_deserializer

    def read(data: bytes) -> Any:
        if len(data) > most:
            wanted = f"must have at most {most:,} bytes, not {len(data):,}"
            return MalformedRequest(InvalidArgumentError("request", wanted))
        return data if parse is None else parse(data)

    makers = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    behaviour = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    make = makers[bool(handler.request_streaming), bool(handler.response_streaming)]
    return make(
        behaviour, request_deserializer=read, response_serializer=handler.response_serializer
    )
