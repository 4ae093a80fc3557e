"""What the README says about accounts."""

import asyncio
import json
from base64 import urlsafe_b64encode
from datetime import timedelta
from typing import Any

import pytest
from httpx import AsyncClient
from sqlalchemy import text

from storefront.accounts.tokens import Tokens
from storefront.parts import Parts
from storefront.settings import DEVELOPMENT_SECRET

SECRET = DEVELOPMENT_SECRET


async def log_in(shop: AsyncClient, username: str, password: str, scope: str = "") -> Any:
    return await shop.post("/token", data={"username": username, "password": password, "scope": scope})


def unsigned(claims: dict[str, Any]) -> str:
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    return ".".join(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


async def test_a_token_has_the_scopes_of_the_user_or_fewer_when_asked(shop: AsyncClient) -> None:
    alice, bob = await log_in(shop, "alice", "wonderland"), await log_in(shop, "bob", "christmas")
    assert (alice.json()["scope"], alice.json()["token_type"]) == ("products:write", "bearer")
    assert bob.json()["scope"] == ""
    more = await log_in(shop, "bob", "christmas", "products:write")
    assert (more.status_code, more.json()["error"]) == (400, "invalid_scope")


async def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(shop: AsyncClient) -> None:
    wrong, unknown = await log_in(shop, "alice", "christmas"), await log_in(shop, "mallory", "christmas")
    assert (wrong.status_code, wrong.json()["error"]) == (400, "invalid_grant")
    assert unknown.json() == wrong.json()


async def test_an_answer_never_repeats_a_password(shop: AsyncClient) -> None:
    answer = await shop.post("/token", json={"username": "alice", "password": "wonderland"})
    assert answer.status_code == 422
    assert "wonderland" not in answer.text


async def test_who_has_no_token_gets_a_401_and_who_lacks_the_scope_a_403(
    shop: AsyncClient, bob: dict[str, str]
) -> None:
    nobody = await shop.patch("/products/1", json={"price": 1})
    somebody = await shop.patch("/products/1", json={"price": 1}, headers=bob)
    assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer")
    assert somebody.status_code == 403
    assert somebody.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="products:write"'
    assert (await shop.get("/products/1")).json()["version"] == 1


@pytest.mark.parametrize(
    "token",
    [
        "",
        "not.a.token",
        Tokens(secret=SECRET, lifetime=timedelta(seconds=-1)).issue(1, "products:write"),
        Tokens(secret=SECRET[::-1], lifetime=timedelta(hours=1)).issue(1, "products:write"),
        Tokens(secret=SECRET, lifetime=timedelta(hours=1)).issue(999, "products:write"),
        unsigned({"iss": "storefront", "sub": "1", "scope": "products:write", "iat": 0, "exp": 99999999999}),
    ],
    ids=["empty", "words", "expired", "signed by another", "of nobody", "unsigned"],
)
async def test_a_token_that_is_not_valid_is_a_401_problem_json(shop: AsyncClient, token: str) -> None:
    for answer in (
        await shop.get("/me", headers={"Authorization": f"Bearer {token}"}),
        await shop.patch("/products/1", json={"price": 1}, headers={"Authorization": f"Bearer {token}"}),
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_a_scope_that_was_taken_away_is_gone_from_tokens_given_before(
    parts: Parts, shop: AsyncClient, alice: dict[str, str]
) -> None:
    async with parts.database.engine.begin() as connection:
        await connection.execute(text("UPDATE users SET scopes = '' WHERE name = 'alice'"))
    assert (await shop.patch("/products/1", json={"price": 1}, headers=alice)).status_code == 403


async def test_many_logins_at_once_all_succeed(shop: AsyncClient) -> None:
    answers = await asyncio.gather(*(log_in(shop, "alice", "wonderland") for _ in range(12)))
    assert {answer.status_code for answer in answers} == {200}
