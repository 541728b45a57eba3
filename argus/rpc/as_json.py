"""Messages as JSON that scripts can read."""

from __future__ import annotations

from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

LONG_NUMBERS = {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64}


def as_json(message: Message) -> dict[str, Any]:
    """Return a message with the names of its proto, ready for JSON, its defaults included.

    Numbers of 64 bits are numbers. The JSON form of protobuf has strings there for JavaScript's
    sake, which scripts trip over; none of ours is near 2^53.
    """
    data = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    _read_numbers(data, cast(Descriptor, message.DESCRIPTOR))
    return data


def _read_numbers(data: dict[str, Any], kind: Descriptor) -> None:
    for name, field in kind.fields_by_name.items():
        value = data.get(name)
        if field.cpp_type in LONG_NUMBERS and value is not None:
            data[name] = [int(v) for v in value] if isinstance(value, list) else int(value)
        elif field.message_type is not None and value is not None:
            for part in value if isinstance(value, list) else [value]:
                _read_numbers(part, field.message_type)
