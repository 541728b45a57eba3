"""A real PostgreSQL for the tests of this folder, and an empty database for each that wants one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import psycopg
import pytest
from local_postgres import LocalPostgres

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalPostgres]:
    server = LocalPostgres()
    yield server
    server.close()


@pytest.fixture
def dsn(postgres: LocalPostgres) -> str:
    """Of a database that nobody has used."""
    name = f"cache{next(_numbers)}"
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} STRATEGY file_copy".encode())
    return postgres.dsn.replace("dbname=postgres", f"dbname={name}")
