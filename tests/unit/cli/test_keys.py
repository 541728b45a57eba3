"""`argus keys` makes, lists and revokes; a key is shown once."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from argus.auth.key_file import read_keys
from argus.auth.keys import Role
from argus.errors import UnauthenticatedError
from tests.unit.cli.running import Here


async def test_a_key_is_made_shown_once_listed_and_revoked(here: Here, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    made = await here("keys", "new", "--role", "client", "--tenant", "acme", "--expires", "90d",
                 "--note", "the shop", "--file", str(file))  # fmt: skip
    assert made.code == 0
    key = made.stdout.decode().strip()
    identity = read_keys(file).check(key, time.time())
    assert (identity.tenant, identity.roles) == ("acme", {Role.CLIENT})
    with pytest.raises(UnauthenticatedError, match="expired"):
        read_keys(file).check(key, time.time() + 91 * 86400)

    listed = (await here("keys", "list", "--file", str(file))).stdout.decode()
    assert f"{identity.key_id}  client  tenant acme  valid until " in listed
    assert "the shop" in listed
    assert key.split("_")[2] not in listed + file.read_text()

    assert (await here("keys", "revoke", identity.key_id, "--file", str(file))).code == 0
    with pytest.raises(UnauthenticatedError, match="revoked"):
        read_keys(file).check(key, time.time())
    (row,) = json.loads((await here("keys", "list", "--json", "--file", str(file))).stdout)
    assert row["state"].startswith("revoked 20")
    again = await here("keys", "revoke", identity.key_id, "--json", "--file", str(file))
    assert json.loads(again.stdout) == row


async def test_the_file_comes_from_the_settings_and_json_holds_the_key(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    monkeypatch.setenv("ARGUS_AUTH_KEYS", str(file))
    made = await here(
        "keys", "new", "--role", "node", "--role", "operator", "--node", "n1", "--json"
    )
    answer = json.loads(made.stdout)
    assert answer["roles"] == ["node", "operator"]
    assert read_keys(file).check(answer["key"], time.time()).node == "n1"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("new",), "--role"),
        (("new", "--role", "king"), "--role"),
        (("new", "--role", "client"), "--tenant: is needed"),
        (("new", "--role", "node", "--tenant", "a"), "--tenant: is needed with the role client"),
        (("new", "--role", "client", "--tenant", "a b"), "--tenant: must be 1 to 64"),
        (("new", "--role", "operator", "--node", "n"), "--node: goes with the role node"),
        (("new", "--role", "node", "--node", "a/b"), "--node: must be"),
        (("new", "--role", "node", "--expires", "soon"), "--expires: must be like"),
        (("new", "--role", "node", "--note", "x" * 201), "--note"),
        (("revoke", "nothing"), "key: unknown 'nothing'"),
    ],
)
async def test_wrong_arguments_are_named(
    arguments: tuple[str, ...], words: str, here: Here, tmp_path: Path
) -> None:
    found = await here("keys", *arguments, "--file", str(tmp_path / "keys"))
    assert found.code == 2
    assert words in found.stderr
    assert read_keys(tmp_path / "keys").records == ()


async def test_without_a_file_it_says_how_to_name_one(here: Here) -> None:
    found = await here("keys", "list")
    assert (found.code, "--file: is needed" in found.stderr) == (2, True)
