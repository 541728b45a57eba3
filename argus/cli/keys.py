"""`argus keys`: the API keys that a coordinator knows."""

from __future__ import annotations

import json as json_module
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from argus.auth.key_file import (
    MAX_NOTE_CHARS,
    NODE,
    TENANT,
    changing_keys,
    purpose_fault,
    read_keys,
)
from argus.auth.keys import ANY_TENANT, KeyRecord, Role, new_key
from argus.cli.ages import seconds_of
from argus.cli.settings import ConfigFlag, JsonFlag, configure
from argus.errors import InvalidArgumentError, NotFoundError

app = typer.Typer(
    help="Make, list and revoke the API keys that a coordinator knows.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

FileFlag = Annotated[
    Path | None,
    typer.Option("--file", help="File of keys. Default: auth.keys of the settings."),
]


@app.command()
def new(
    role: Annotated[
        list[Role], typer.Option("--role", help="What it is for; may be given several times.")
    ],
    tenant: Annotated[
        str,
        typer.Option(
            help="For whom a client asks; * for whomever it names, as the HTTP gateway does."
        ),
    ] = "",
    node: Annotated[
        str, typer.Option(help="The only name by which a node may join with it. Default: any.")
    ] = "",
    expires: Annotated[
        str | None, typer.Option(help="After how long it is refused, such as 90d. Default: never.")
    ] = None,
    note: Annotated[str, typer.Option(help="For people; `list` shows it.")] = "",
    file: FileFlag = None,
    config: ConfigFlag = None,
    json: JsonFlag = False,
) -> None:
    """Make a key and print it, this once: only its hash is kept.

    A running coordinator knows it within a second.
    """
    roles = frozenset(role)
    if tenant not in ("", ANY_TENANT) and not TENANT.fullmatch(tenant):
        raise InvalidArgumentError("--tenant", "must be 1 to 64 characters of [A-Za-z0-9._-], or *")
    if node and not NODE.fullmatch(node):
        raise InvalidArgumentError("--node", "must be 1 to 63 characters of [A-Za-z0-9._-]")
    if len(note) > MAX_NOTE_CHARS:
        raise InvalidArgumentError("--note", f"must have at most {MAX_NOTE_CHARS} characters")
    field, _, fault = purpose_fault(roles, tenant, node).partition(": ")
    if fault:
        raise InvalidArgumentError(f"--{field}", fault)
    now_s = time.time()
    until_s = None if expires is None else now_s + seconds_of(expires, "--expires")
    made = new_key(roles, now_s, tenant, node, until_s, note)
    with changing_keys(_file(file, config)) as records:
        records.append(made.record)
    if json:
        typer.echo(json_module.dumps({"key": made.text, **_described(made.record, now_s)}))
    else:
        typer.echo(made.text)


@app.command("list")
def list_(file: FileFlag = None, config: ConfigFlag = None, json: JsonFlag = False) -> None:
    """Show the keys there are; of the keys themselves only their names are known."""
    now_s = time.time()
    described = [_described(record, now_s) for record in read_keys(_file(file, config)).records]
    if json:
        typer.echo(json_module.dumps(described, indent=2))
        return
    for key in described:
        whose = [f"{what} {key[what]}" for what in ("tenant", "node") if key[what]]
        parts = (", ".join(key["roles"]), *whose, key["state"], key["note"])
        typer.echo(f"{key['id']}  {'  '.join(part for part in parts if part)}")


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Name of the key, as `list` shows it.")],
    file: FileFlag = None,
    config: ConfigFlag = None,
    json: JsonFlag = False,
) -> None:
    """Have a key refused from now on; a running coordinator knows within a second.

    Nodes that joined with it are turned out. Requests that were let in are finished.
    """
    with changing_keys(_file(file, config)) as records:
        names = [record.key_id for record in records]
        if key not in names:
            raise NotFoundError("key", key, names)
        at = names.index(key)
        if records[at].revoked_unix_s is None:
            records[at] = replace(records[at], revoked_unix_s=time.time())
        revoked = records[at]
    if json:
        typer.echo(json_module.dumps(_described(revoked, time.time())))
    else:
        typer.echo(f"{key} is revoked")


def _file(file: Path | None, config: Path | None) -> Path:
    """Return the file to work on.

    Raises:
        InvalidArgumentError: none is named.
    """
    named = str(file) if file else configure(config, {}).auth.keys
    if not named:
        raise InvalidArgumentError("--file", "is needed, since auth.keys is not set")
    return Path(named)


def _described(record: KeyRecord, now_s: float) -> dict[str, Any]:
    state = "valid"
    if record.revoked_unix_s is not None:
        state = f"revoked {_date(record.revoked_unix_s)}"
    elif record.expires_unix_s is not None:
        word = "expired" if record.fault(now_s) else "valid until"
        state = f"{word} {_date(record.expires_unix_s)}"
    return {
        "id": record.key_id,
        "roles": [role.value for role in Role if role in record.roles],
        "tenant": record.tenant,
        "node": record.node,
        "created": _date(record.created_unix_s),
        "state": state,
        "note": record.note,
    }


def _date(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
