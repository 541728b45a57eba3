"""Connections to a PostgreSQL server that may be slow, stopped, or not there yet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from argus.cache.breaker import Breaker
from argus.errors import ConfigError, InternalError, UnavailableError

try:
    import psycopg
except ImportError as error:
    raise ConfigError(
        "the PostgreSQL back ends of the cache need: pip install 'argus-serve[postgres]'"
    ) from error

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]

_SCHEMA_LOCK = 0x4152475553
"""Advisory lock under which one process at a time makes tables."""


class Database:
    """A few connections, made when needed, and a breaker in front of them.

    Commits do not wait for the server's disk (`synchronous_commit = off`): a crash of the server
    may lose the last moments, as it may with local files, but tears nothing.

    Args:
        dsn: connection string or URI.
        schema: statements that make the tables, run once in each process; each must do nothing
            when its work is done already.
        breaker: when to leave the server alone.
        connections: the most that are open at once; further callers wait.
        timeout_s: for a free connection, for a statement, and (at least 2 s) for connecting.
    """

    def __init__(
        self,
        dsn: str,
        schema: Sequence[str],
        breaker: Breaker,
        *,
        connections: int = 4,
        timeout_s: float = 2.0,
    ) -> None:
        self._dsn = dsn
        self._schema = schema
        self._breaker = breaker
        self._timeout_s = timeout_s
        self._room = threading.Semaphore(connections)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._schema_made = False
        self._closed = False

    def call(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` returns for a connection in autocommit mode.

        Raises:
            UnavailableError: the server cannot be used now, or was left alone after a failure.
            InternalError: the server refused what `work` asked.
        """
        if self._closed:
            raise UnavailableError("the connections to PostgreSQL are closed")
        if not self._breaker.may_call():
            raise UnavailableError("PostgreSQL failed a moment ago and is left alone")
        try:
            with self._connection() as connection:
                result = work(connection)
        except psycopg.errors.DeadlockDetected as error:
            # A deadlock with another node: the server is well.
            self._breaker.succeeded()
            raise UnavailableError(f"PostgreSQL: {error}") from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self._breaker.failed()
            self._forget_idle()
            raise UnavailableError(f"PostgreSQL: {error}") from error
        except psycopg.Error as error:
            self._breaker.succeeded()
            raise InternalError(f"PostgreSQL: {error}") from error
        except BaseException:
            # Not the server's fault; whoever waits for this call's verdict must not wait for ever.
            self._breaker.succeeded()
            raise
        self._breaker.succeeded()
        return result

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it is given back."""
        self._closed = True
        self._forget_idle()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        if not self._room.acquire(timeout=self._timeout_s):
            raise UnavailableError("all connections to PostgreSQL are busy")
        try:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                connection = self._connect()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._room.release()

    def _connect(self) -> Connection:
        milliseconds = round(1000 * self._timeout_s)
        connection = psycopg.connect(
            self._dsn,
            autocommit=True,
            connect_timeout=max(2, round(self._timeout_s)),
            # A statement's timeout is the server's to keep; these end the wait for a machine that
            # has vanished, with and without data on the way.
            tcp_user_timeout=2 * milliseconds,
            keepalives=1,
            keepalives_idle=max(1, round(self._timeout_s)),
            keepalives_interval=1,
            keepalives_count=2,
            application_name="argus-cache",
            options=f"-c statement_timeout={milliseconds} -c synchronous_commit=off",
        )
        if not self._schema_made:
            try:
                with connection.transaction():
                    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
                    for statement in self._schema:
                        connection.execute(statement.encode())
            except BaseException:
                connection.close()
                raise
            self._schema_made = True
        return connection

    def _give_back(self, connection: Connection) -> None:
        if connection.broken or connection.closed or self._closed:
            connection.close()
            return
        with self._lock:
            self._idle.append(connection)

    def _forget_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
