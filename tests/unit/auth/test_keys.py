"""Keys stand for whom they were made for, and nothing else opens the door."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argus.auth.keys import (
    ANY_TENANT,
    ANYBODY,
    KEY,
    Identity,
    KeyRing,
    Role,
    new_key,
)
from argus.errors import PermissionDeniedError, UnauthenticatedError

CLIENT = frozenset({Role.CLIENT})
NOW_S = 1000.0


def test_a_key_opens_what_it_was_made_for_and_its_text_is_not_kept() -> None:
    made = new_key([Role.CLIENT], NOW_S, tenant="acme", expires_unix_s=NOW_S + 10, note="x")
    assert KEY.fullmatch(made.text)
    assert made.record.sha256 == hashlib.sha256(made.text.encode()).hexdigest()
    assert made.text not in repr(made.record)
    ring = KeyRing([made.record])
    assert ring.check(made.text, NOW_S) == Identity(made.record.key_id, CLIENT, "acme")
    with pytest.raises(UnauthenticatedError, match="has expired"):
        ring.check(made.text, NOW_S + 10)


def test_keys_of_one_tenant_are_valid_side_by_side_until_one_is_revoked() -> None:
    old, new = (new_key([Role.CLIENT], NOW_S, tenant="acme") for _ in range(2))
    both = KeyRing([old.record, new.record])
    assert both.check(old.text, 0).tenant == both.check(new.text, 0).tenant == "acme"


@given(st.text(max_size=200))
def test_no_text_is_a_key_by_chance(text: str) -> None:
    ring = KeyRing([new_key([Role.NODE], NOW_S).record])
    with pytest.raises(UnauthenticatedError):
        ring.check(text, NOW_S)


@given(st.integers(0, 88), st.sampled_from("0123456789abcdefg_ \n\u0660"))
def test_no_key_with_a_changed_character_is_let_in(position: int, character: str) -> None:
    made = new_key([Role.NODE], NOW_S)
    text = made.text[:position] + character + made.text[position + 1 :]
    ring = KeyRing([made.record])
    if text != made.text:
        with pytest.raises(UnauthenticatedError, match="not known here"):
            ring.check(text, NOW_S)


def test_only_the_holder_of_the_whole_key_learns_that_it_has_expired() -> None:
    made = new_key([Role.NODE], NOW_S, expires_unix_s=NOW_S)
    guess = made.text[:-1] + ("0" if made.text[-1] != "0" else "1")
    with pytest.raises(UnauthenticatedError, match="not known here"):
        KeyRing([made.record]).check(guess, NOW_S + 1)


def test_a_call_holds_while_its_key_says_the_same() -> None:
    made = new_key([Role.NODE], NOW_S, expires_unix_s=NOW_S + 5)
    ring = KeyRing([made.record])
    identity = ring.check(made.text, NOW_S)
    assert ring.still_holds(identity, NOW_S)
    assert not ring.still_holds(identity, NOW_S + 5)
    assert not KeyRing().still_holds(identity, NOW_S)


@pytest.mark.parametrize(
    ("own", "named", "tenant"),
    [
        ("acme", "", "acme"),
        ("acme", "acme", "acme"),
        ("acme", "other", None),
        (ANY_TENANT, "other", "other"),
        (ANY_TENANT, "", ""),
        ("", "", ""),
        ("", "acme", None),
    ],
)
def test_the_tenant_comes_from_the_key(own: str, named: str, tenant: str | None) -> None:
    identity = Identity("id", CLIENT, own)
    if tenant is None:
        with pytest.raises(PermissionDeniedError, match="tenant"):
            identity.tenant_of(named)
    else:
        assert identity.tenant_of(named) == tenant


def test_a_node_key_may_be_for_one_name() -> None:
    Identity("id", frozenset({Role.NODE})).check_node("any")
    bound = Identity("id", frozenset({Role.NODE}), node="n1")
    bound.check_node("n1")
    with pytest.raises(PermissionDeniedError, match="'n1'"):
        bound.check_node("n2")


def test_anybody_may_do_everything() -> None:
    assert all(ANYBODY.may([role]) for role in Role)
    assert not ANYBODY.may([])
