"""Bearer tokens: made, kept as hashes, found again or refused."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json, structs

from aliciacfg.access import tokens
from aliciacfg.errors import InvalidRequest, Unauthorized
from aliciacfg.model.records import Token

NOW = 1_000_000.0


def made(text: str, *, expires: float | None = None) -> dict[str, Token]:
    token = tokens.token(text, name="bell", role="writer", now=NOW, expires=expires)
    return {token.token_id: token}


def test_a_token_is_found_again_with_its_name_and_role():
    """A token is found among others by its text alone."""
    text = tokens.generate()
    known = {**made(tokens.generate()), **made(text), **made(tokens.generate())}
    found = tokens.verify(text, known, now=NOW)
    assert (found.name, found.role, found.created, found.expires) == ("bell", "writer", NOW, None)
    assert len(text) == 61


def test_what_is_kept_does_not_show_the_secret():
    """Only a SHA-256 of it, in the record, its JSON and its repr; 256 random bits that never repeat."""
    texts = {tokens.generate() for _ in range(500)}
    assert len(texts) == len({text.split("_", 2)[2] for text in texts}) == len({text[5:17] for text in texts}) == 500
    text = texts.pop()
    token = tokens.token(text, name="bell", role="service", now=NOW)
    assert token.digest == hashlib.sha256(text.encode()).hexdigest()
    secret = text.split("_", 2)[2]
    assert secret not in json.encode(token).decode() + repr(token)
    assert token.token_id == text[5:17]


@given(st.integers(0, 60), st.characters())
def test_any_changed_character_is_noticed(index: int, other: str):
    """In the prefix, the id and the secret; the refusal repeats nothing of it."""
    text = "acfg_0123456789ab_" + "Aa0-_" * 8 + "xyz"
    changed = text[:index] + other + text[index + 1 :]
    if changed == text:
        return
    with pytest.raises(Unauthorized) as refused:
        tokens.verify(changed, made(text), now=NOW)
    assert text.split("_", 2)[2] not in refused.value.message


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "acfg_", "acfg__", "Bearer x", "x" * 10_000, "acfg_0123456789ab_", "acfg_0123456789ab_" + "a" * 42,
        "acfg_0123456789ab_" + "a" * 44, "acfg_0123456789AB_" + "a" * 43, "ACFG_0123456789ab_" + "a" * 43,
        "acfg_0123456789ab_" + "a" * 42 + "\u0661", "acfg_0123456789ab_" + "a" * 43 + "\n", "\ud800", "\0",
        " acfg_0123456789ab_" + "a" * 43, "acfg_0123456789ab_" + "a" * 42 + "=",
    ],
)  # fmt: skip
def test_what_has_not_the_form_of_a_token_is_told_so(text: str):
    """Cut, padded, of another alphabet, empty or huge; neither taken nor kept."""
    with pytest.raises(Unauthorized, match="not a complete token"):
        tokens.verify(text, made(tokens.generate()), now=NOW)
    with pytest.raises(InvalidRequest, match="aliciacfg token create"):
        tokens.token(text, name="bell", role="service", now=NOW)


def test_an_unknown_token_and_a_wrong_secret_cannot_be_told_apart():
    """Both errors are equal, so that a caller does not learn which ids exist."""
    text = tokens.generate()
    wrong = text[:18] + tokens.generate()[18:]
    messages: set[str] = set()
    for presented in (tokens.generate(), wrong):
        with pytest.raises(Unauthorized) as refused:
            tokens.verify(presented, made(text), now=NOW)
        messages.add(refused.value.message)
    assert len(messages) == 1


def test_every_well_formed_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch):
    """Right, wrong and unknown ones take the same path: one digest, compared by compare_digest at full length."""
    compared: list[tuple[int, int]] = []

    def compare(left: str, right: str) -> bool:
        compared.append((len(left), len(right)))
        return compare_digest(left, right)

    compare_digest = hmac.compare_digest
    monkeypatch.setattr(tokens.hmac, "compare_digest", compare)
    text = tokens.generate()
    assert tokens.verify(text, made(text), now=NOW)
    for presented in (tokens.generate(), text[:18] + tokens.generate()[18:]):
        with pytest.raises(Unauthorized):
            tokens.verify(presented, made(text), now=NOW)
    assert compared == [(64, 64)] * 3


def test_a_token_ends_when_it_expires():
    """A token expires at that second, and the error names it."""
    text = tokens.generate()
    known = made(text, expires=NOW + 10)
    assert tokens.verify(text, known, now=NOW + 9.9)
    with pytest.raises(Unauthorized, match=f"{text[5:17]} is expired"):
        tokens.verify(text, known, now=NOW + 10)
    with pytest.raises(InvalidRequest, match="expired already"):
        made(text, expires=NOW)


def test_a_revoked_token_is_refused():
    """A revoked token is refused as revoked even if it is expired; a caller without its secret does not learn this."""
    text = tokens.generate()
    known = {key: structs.replace(token, revoked=NOW) for key, token in made(text, expires=NOW + 10).items()}
    for now in (NOW, NOW + 20):
        with pytest.raises(Unauthorized, match=f"{text[5:17]} was revoked"):
            tokens.verify(text, known, now=now)
    with pytest.raises(Unauthorized, match="not known"):
        tokens.verify(text[:18] + tokens.generate()[18:], known, now=NOW)


@pytest.mark.parametrize("name", ["", "a/b", "get", "a b", "x" * 65, "a\n", "+"])
def test_a_token_is_for_a_name_that_can_ask(name: str):
    """The same names as over the bus, so that the rules mean the same."""
    with pytest.raises(InvalidRequest, match="cannot name a caller"):
        tokens.token(tokens.generate(), name=name, role="service", now=NOW)
