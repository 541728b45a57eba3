"""The seat of the leader as a session's advisory lock in PostgreSQL.

The lock lives as long as the session. The server ends a session whose process is gone at once, one
whose machine is gone when its TCP keepalives are not answered, and one whose process hangs when it
is idle for the lease (`idle_session_timeout`, since PostgreSQL 14). A pooler that shares sessions
between clients must not stand in between; where one does, `keep` finds the lock missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
from collections.abc import AsyncIterator
from hashlib import blake2b
from typing import Any

from argus.coordinator.leadership import Taken
from argus.errors import ConfigError, UnavailableError

try:
    import psycopg
except ImportError as error:
    raise ConfigError("standby.postgres: needs: pip install 'argus-serve[postgres]'") from error

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

SEAT, WAITING, SCHEMA = 0x41524755, 0x41524756, 0x41524757
"""First numbers of the advisory locks: held by the leader, shared by those who wait, and held
while the table is made."""
TABLE = """
CREATE TABLE IF NOT EXISTS argus_leader (
    cluster text PRIMARY KEY,
    epoch bigint NOT NULL,
    leader text NOT NULL,
    since timestamptz NOT NULL,
    state text NOT NULL DEFAULT '',
    saved timestamptz
)"""
NEXT_EPOCH = """
INSERT INTO argus_leader AS old (cluster, epoch, leader, since) VALUES (%s, 1, %s, now())
ON CONFLICT (cluster) DO UPDATE SET epoch = old.epoch + 1, leader = EXCLUDED.leader, since = now()
RETURNING epoch, state, coalesce(extract(epoch FROM now() - saved), 0)::float8
"""
KEEP = """
SELECT coalesce(bool_or(classid = %(seat)s::bigint::oid AND pid = pg_backend_pid()), false),
       count(*) FILTER (WHERE classid = %(waiting)s::bigint::oid)
FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objid = %(cluster)s::bigint::oid AND objsubid = 2
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
SAVE = "UPDATE argus_leader SET state = %s, saved = now() WHERE cluster = %s AND epoch = %s"


class PostgresSeat:
    """A seat that the coordinators of a cluster contend for. Implements Seat.

    Used inside one event loop, on purpose: where that hangs, the session falls silent.

    Args:
        dsn: connection string or URI.
        cluster: name of the cluster; others in the same database have seats of their own.
        lease_s: seconds of silence after which the server ends a session.
    """

    def __init__(self, dsn: str, cluster: str, lease_s: float) -> None:
        self._dsn = dsn
        self._cluster = cluster
        self._number = int.from_bytes(blake2b(cluster.encode(), digest_size=4).digest()) >> 1
        self._lease_s = lease_s
        self._connection: Connection | None = None
        self._epoch = 0

    async def take(self) -> Taken | None:
        """Take the seat; None where another one has it.

        Raises:
            UnavailableError: the server cannot be used now.
        """
        async with self._asking():
            connection = self._connection or await self._connect()
            found = await connection.execute(
                "SELECT pg_try_advisory_lock(%s, %s)", (SEAT, self._number)
            )
            if not _first(await found.fetchone()):
                return None
            name = f"{platform.node()}:{os.getpid()}"
            row = await (await connection.execute(NEXT_EPOCH, (self._cluster, name))).fetchone()
            await connection.execute(
                "SELECT pg_advisory_unlock_shared(%s, %s)", (WAITING, self._number)
            )
            if row is None:
                raise UnavailableError("PostgreSQL: no epoch was given")
            self._epoch = int(row[0])
            return Taken(self._epoch, str(row[1]), float(row[2]))

    async def keep(self) -> int:
        """Make sure that the seat is still held; return how many wait for it.

        Raises:
            UnavailableError: it is not, or the server cannot be used now.
        """
        async with self._asking():
            names = {"seat": SEAT, "waiting": WAITING, "cluster": self._number}
            row = await (await self._session().execute(KEEP, names)).fetchone()
            if not _first(row):
                raise UnavailableError(
                    "PostgreSQL: the session does not hold the lock; is a pooler in between?"
                )
            return 0 if row is None else int(row[1])

    async def save(self, state: str) -> None:
        """Leave something for the leaders to come.

        Raises:
            UnavailableError: another one has led since, or the server cannot be used now.
        """
        async with self._asking():
            done = await self._session().execute(SAVE, (state, self._cluster, self._epoch))
            if done.rowcount != 1:
                raise UnavailableError(f"PostgreSQL: epoch {self._epoch} is over")

    async def leave(self) -> None:
        """Give the seat up by ending the session."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Whatever goes wrong ends the session: nobody knows what became of its lock."""
        try:
            async with asyncio.timeout(self._lease_s):
                yield
        except (psycopg.Error, OSError, TimeoutError) as error:
            await self.leave()
            why = str(error).strip() or "no answer in time"
            raise UnavailableError(f"PostgreSQL: {why.splitlines()[0]}") from error
        except BaseException:
            await self.leave()
            raise

    async def _connect(self) -> Connection:
        milliseconds = round(1000 * self._lease_s)
        seconds = max(1, round(self._lease_s / 2))
        settings = {
            "idle_session_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
            "statement_timeout": milliseconds // 2,
            "lock_timeout": milliseconds // 2,
            # The server's side of the connection: of a machine that has vanished.
            "tcp_keepalives_idle": seconds,
            "tcp_keepalives_interval": 1,
            "tcp_keepalives_count": 2,
            "tcp_user_timeout": milliseconds,
        }
        connection = await psycopg.AsyncConnection.connect(
            self._dsn,
            autocommit=True,
            connect_timeout=max(2, round(self._lease_s)),
            keepalives=1,
            keepalives_idle=seconds,
            keepalives_interval=1,
            keepalives_count=2,
            tcp_user_timeout=milliseconds,
            application_name="argus-coordinator",
            options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
        )
        # A server that is older than 14 refuses the first of the settings, in words that say so.
        self._connection = connection
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (SCHEMA, 0))
            await connection.execute(TABLE.encode())
        await connection.execute("SELECT pg_advisory_lock_shared(%s, %s)", (WAITING, self._number))
        return connection

    def _session(self) -> Connection:
        if self._connection is None:
            raise UnavailableError("PostgreSQL: there is no session")
        return self._connection


def _first(row: tuple[Any, ...] | None) -> bool:
    return row is not None and bool(row[0])
