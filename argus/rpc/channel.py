"""Channels, and the limits and keepalive that both ends must agree on."""

from __future__ import annotations

import grpc

from argus.rpc.tls import Tls

MAX_MESSAGE_BYTES = 64 * 2**20
KEEPALIVE_S = 20.0
KEEPALIVE_TIMEOUT_S = 10.0
FIRST_RECONNECT_S = 0.1
LONGEST_RECONNECT_S = 2.0

Options = list[tuple[str, int | str]]


def channel_options(keepalive_s: float = KEEPALIVE_S) -> Options:
    """Return the options of a channel that pings every `keepalive_s` seconds, idle or not.

    gRPC's own retries are off: the SDK retries, with the same request id and within the deadline.
    Proxies of the environment are not used: Argus peers are dialled directly.
    """
    return [
        *shared_options(keepalive_s),
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
        ("grpc.initial_reconnect_backoff_ms", _ms(FIRST_RECONNECT_S)),
        ("grpc.min_reconnect_backoff_ms", _ms(LONGEST_RECONNECT_S)),
        ("grpc.max_reconnect_backoff_ms", _ms(LONGEST_RECONNECT_S)),
    ]


def server_options(keepalive_s: float = KEEPALIVE_S) -> Options:
    """Return the options of a server whose clients ping every `keepalive_s` seconds.

    By default gRPC closes a connection that pings without data more than once in five minutes.
    A port in use is an error here, not shared between processes.
    """
    return [
        *shared_options(keepalive_s),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(keepalive_s / 2)),
        ("grpc.so_reuseport", 0),
    ]


def shared_options(keepalive_s: float) -> Options:
    """Return the options that channels and servers have in common."""
    return [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", _ms(keepalive_s)),
        ("grpc.keepalive_timeout_ms", _ms(KEEPALIVE_TIMEOUT_S)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def open_channel(address: str, tls: Tls | None = None) -> grpc.aio.Channel:
    """Return an asyncio channel to `HOST:PORT`; it connects at the first call.

    Raises:
        ConfigError: a file of `tls` cannot be used.
    """
    if tls is None:
        return grpc.aio.insecure_channel(address, options=channel_options())
    return grpc.aio.secure_channel(address, tls.credentials(), options=_tls_options(tls))


def open_blocking_channel(address: str, tls: Tls | None = None) -> grpc.Channel:
    """Return a channel to `HOST:PORT` for threads; it connects at the first call.

    Raises:
        ConfigError: a file of `tls` cannot be used.
    """
    if tls is None:
        return grpc.insecure_channel(address, options=channel_options())
    return grpc.secure_channel(address, tls.credentials(), options=_tls_options(tls))


def _tls_options(tls: Tls) -> Options:
    name: Options = []
    if tls.server_name:
        name.append(("grpc.ssl_target_name_override", tls.server_name))
    return [*channel_options(), *name]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
