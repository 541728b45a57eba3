"""Requests that protobuf cannot parse, turned into errors that name the field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from argus.errors import InvalidArgumentError

LENGTH_DELIMITED = 2
DEEPEST = 8
"""Levels of messages in messages; some kinds may hold themselves without end."""


@dataclass(frozen=True, slots=True)
class MalformedRequest:
    """Stands in for a request whose bytes are not the message; `error` says what is wrong."""

    error: InvalidArgumentError


def tolerant(parse: Callable[[bytes], Any], method: str) -> Callable[[bytes], Any]:
    """Return `parse` with a parse error returned as a MalformedRequest instead of raised.

    gRPC answers UNKNOWN when a deserialiser raises, before any handler or interceptor runs; a
    returned stand-in lets the interceptor raise the error where all others are mapped.

    Args:
        parse: deserialiser of the request message.
        method: full name of the method, `/package.Service/Method`.
    """

    def parse_or_explain(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return MalformedRequest(explain(data, method))

    return parse_or_explain


def explain(data: bytes, method: str) -> InvalidArgumentError:
    """Return the error for request bytes that do not parse, naming the field that is not UTF-8."""
    try:
        descriptor = descriptor_pool.Default().FindMethodByName(method.strip("/").replace("/", "."))
        field = _not_utf8(data, descriptor.input_type)
    except (KeyError, DecodeError):
        field = ""
    if field:
        return InvalidArgumentError(field, "must be text in UTF-8; these bytes are not")
    return InvalidArgumentError("request", f"the bytes are not a request of {method}")


def _not_utf8(data: bytes, message: Descriptor, deepest: int = DEEPEST) -> str:
    """Return the dotted name of the first string in `data` that is not UTF-8, or nothing.

    Parsed as an empty message every field is unknown, and unknown fields keep their bytes: each
    level that is looked into holds a copy of them.
    """
    if not deepest:
        return ""
    fields = UnknownFieldSet(Empty.FromString(data))
    for i in range(len(fields)):
        unknown = fields[i]
        field = message.fields_by_number.get(unknown.field_number)
        if field is None or unknown.wire_type != LENGTH_DELIMITED:
            continue
        if field.type == FieldDescriptor.TYPE_STRING and not _is_utf8(unknown.data):
            return field.name
        if field.message_type is not None:
            inner = _not_utf8(unknown.data, field.message_type, deepest - 1)
            if inner:
                return f"{field.name}.{inner}"
    return ""


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
