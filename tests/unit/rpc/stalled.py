"""A caller that watches health and takes no byte of the answer: HTTP/2 with a window of 0."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grpc_health.v1 import health_pb2

from argus.rpc.address import parse_address

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4


@asynccontextmanager
async def stalled_watch(address: str, service: str) -> AsyncIterator[None]:
    """Inside the block, the server has begun to answer a Watch and cannot get on with it."""
    reader, writer = await asyncio.open_connection(*parse_address(address, "test.server"))
    writer.write(PREFACE + _frame(SETTINGS, 0, 0, struct.pack("!HI", INITIAL_WINDOW_SIZE, 0)))
    headers = b"\x83\x86" + _header(b"\x04", b"/grpc.health.v1.Health/Watch")  # POST, http, :path
    headers += _header(b"\x01", b"argus")  # :authority
    headers += _header(b"\x00" + _text(b"content-type"), b"application/grpc")
    headers += _header(b"\x00" + _text(b"te"), b"trailers")
    request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    message = struct.pack("!BI", 0, len(request)) + request
    writer.write(_frame(HEADERS, END_HEADERS, 1, headers) + _frame(DATA, END_STREAM, 1, message))
    try:
        async with asyncio.timeout(10):
            while (frame := await _next_frame(reader)) != (HEADERS, END_HEADERS):
                if frame == (SETTINGS, 0):
                    writer.write(_frame(SETTINGS, ACK, 0, b""))
        yield
    finally:
        writer.close()
        await writer.wait_closed()


async def _next_frame(reader: asyncio.StreamReader) -> tuple[int, int]:
    """Read a frame and return its type and flags."""
    head = await reader.readexactly(9)
    await reader.readexactly(int.from_bytes(head[:3], "big"))
    return head[3], head[4]


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack("!BBI", kind, flags, stream) + payload


def _text(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def _header(name: bytes, value: bytes) -> bytes:
    """Return a header that is kept in no table (RFC 7541, 6.2.2)."""
    return name + _text(value)
