"""What the README says about accounts."""

import asyncio
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from httpx import AsyncClient
from shop_client import bearer, client_of, is_hit, lifespan
from sqlalchemy import event

from storefront.main import assembled
from storefront.parts import Parts
from storefront.settings import DEVELOPMENT_SECRET, Settings

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


def forged(told: dict[str, Any], secret: str = SECRET) -> str:
    """A token that says something else than the one it is made from."""
    return jwt.encode(told, secret, "HS256")  # pyright: ignore[reportUnknownMemberType] - names `cryptography`


@pytest.mark.parametrize(
    "kind", ["empty", "words", "expired", "signed by another", "of another user", "unsigned", "older"]
)
async def test_a_token_that_is_not_valid_is_a_401_problem_json(
    shop: AsyncClient, alice: dict[str, str], kind: str
) -> None:
    claims = alice["Authorization"].split(".")[1]
    good = json.loads(urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    token = {
        "empty": "",
        "words": "not.a.token",
        "expired": forged({**good, "exp": 1}),
        "signed by another": forged(good, SECRET[::-1]),
        "of another user": forged({**good, "sub": "2"}),
        "unsigned": unsigned(good),
        "older": forged({name: said for name, said in good.items() if name != "sid"}),
    }[kind]
    assert (await shop.get("/me", headers={"Authorization": f"Bearer {forged(good)}"})).status_code == 200
    for answer in (
        await shop.get("/me", headers={"Authorization": f"Bearer {token}"}),
        await shop.patch("/products/1", json={"price": 1}, headers={"Authorization": f"Bearer {token}"}),
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        assert "stored" not in answer.headers.get("cache-status", "")


async def test_a_scope_that_was_taken_away_is_gone_from_tokens_given_before(
    shop: AsyncClient, alice: dict[str, str], queen: dict[str, str]
) -> None:
    assert (await shop.get("/me", headers=alice)).json()["scopes"] == "products:write"
    taken = await shop.patch("/users/1", json={"scopes": ""}, headers=queen)
    assert (taken.status_code, taken.json()["scopes"]) == (200, "")
    assert (await shop.patch("/products/1", json={"price": 1}, headers=alice)).status_code == 403
    assert (await shop.get("/me", headers=alice)).json() == taken.json()
    await shop.patch("/users/1", json={"role": "admin"}, headers=queen)
    assert (await shop.get("/users", headers=alice)).status_code == 200


async def test_a_checked_token_is_checked_again_without_sql(
    shop: AsyncClient, alice: dict[str, str], statements: list[str]
) -> None:
    await shop.get("/me", headers=alice)
    statements.clear()
    assert is_hit(await shop.get("/me", headers=alice))
    assert (await shop.get("/users", headers=alice)).status_code == 403
    assert statements == []


async def test_who_has_logged_out_is_let_in_nowhere(settings: Settings, tmp_path: Path) -> None:
    shared = settings.model_copy(update={"cache_url": f"local://{tmp_path}/cache"})
    one, two = (assembled(Parts.made_for(shared)) for _ in range(2))
    async with lifespan(one), lifespan(two), client_of(one) as here, client_of(two) as there:
        alice = await bearer(here, "alice", "wonderland")
        again = await bearer(here, "alice", "wonderland")
        for shop in (here, there):
            await shop.get("/me", headers=alice)
            assert is_hit(await shop.get("/me", headers=alice))
        assert (await here.post("/logout", headers=alice)).status_code == 204
        assert [(await shop.get("/me", headers=alice)).status_code for shop in (there, here)] == [401, 401]
        assert [(await shop.get("/me", headers=again)).status_code for shop in (there, here)] == [200, 200]


async def test_workers_share_what_they_know_of_a_token(settings: Settings, tmp_path: Path) -> None:
    shared = settings.model_copy(update={"cache_url": f"local://{tmp_path}/cache"})
    first, second = Parts.made_for(shared), Parts.made_for(shared)
    asked: list[str] = []
    event.listen(second.database.engine.sync_engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    one, two = assembled(first), assembled(second)
    async with lifespan(one), lifespan(two), client_of(one) as here, client_of(two) as there:
        alice = await bearer(here, "alice", "wonderland")
        await here.get("/me", headers=alice)
        asked.clear()
        assert (await there.get("/users", headers=alice)).status_code == 403
        assert asked == []


async def refreshed(shop: AsyncClient, token: str) -> Any:
    return await shop.post("/token/refresh", data={"refresh_token": token})


async def test_a_refresh_token_is_good_for_one_use(shop: AsyncClient) -> None:
    first = (await log_in(shop, "alice", "wonderland")).json()
    second = await refreshed(shop, first["refresh_token"])
    assert (second.status_code, second.headers["cache-control"]) == (200, "no-store")
    third = await refreshed(shop, second.json()["refresh_token"])
    assert third.json()["scope"] == "products:write"
    assert (await me(shop, third.json())).status_code == 200


async def test_a_refresh_token_that_comes_twice_ends_the_session(shop: AsyncClient) -> None:
    stolen = (await log_in(shop, "alice", "wonderland")).json()
    current = (await refreshed(shop, stolen["refresh_token"])).json()
    assert (await me(shop, current)).status_code == 200
    again = await refreshed(shop, stolen["refresh_token"])
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert (await me(shop, current)).status_code == 401
    assert (await refreshed(shop, current["refresh_token"])).status_code == 400


@pytest.mark.parametrize("token", ["", "x", "x.y", "💎.", "a" * 201])
async def test_a_refresh_token_that_was_never_given_is_refused(shop: AsyncClient, parts: Parts, token: str) -> None:
    before = (await parts.cache.invalidate("nothing")).id
    assert (await refreshed(shop, token)).status_code in {400, 422}
    assert (await parts.cache.invalidate("nothing")).id == before + 1  # nobody outside can make us invalidate


async def test_a_session_that_was_not_refreshed_in_time_is_over(settings: Settings) -> None:
    short = settings.model_copy(update={"session_lifetime": timedelta(microseconds=1)})
    app = assembled(Parts.made_for(short))
    async with lifespan(app), client_of(app) as shop:
        begun = (await log_in(shop, "alice", "wonderland")).json()
        assert (await refreshed(shop, begun["refresh_token"])).status_code == 400


async def me(shop: AsyncClient, token: dict[str, str]) -> Any:
    return await shop.get("/me", headers={"Authorization": f"Bearer {token['access_token']}"})


async def test_what_is_for_one_role_is_a_403_for_others_also_when_it_is_stored(
    shop: AsyncClient, bob: dict[str, str], queen: dict[str, str]
) -> None:
    await shop.get("/users", headers=queen)
    allowed, refused, unknown = [await shop.get("/users", headers=headers) for headers in (queen, bob, {})]
    assert [allowed.status_code, refused.status_code, unknown.status_code] == [200, 403, 401]
    assert not any("stored" in answer.headers.get("cache-status", "") for answer in (refused, unknown))
    assert is_hit(allowed)
    assert "private" in allowed.headers["cache-control"]
    assert [user["name"] for user in allowed.json()] == ["alice", "bob", "queen"]


async def test_a_change_of_what_a_user_may_do_needs_the_scope_and_the_role(
    shop: AsyncClient, alice: dict[str, str], queen: dict[str, str]
) -> None:
    narrow = await log_in(shop, "queen", "croquet", "")
    assert narrow.json()["scope"] == "users:write"
    await shop.patch("/users/1", json={"scopes": "users:write"}, headers=queen)
    with_scope = await log_in(shop, "alice", "wonderland")
    headers = {"Authorization": f"Bearer {with_scope.json()['access_token']}"}
    answers = [await shop.patch("/users/2", json={"role": "admin"}, headers=each) for each in ({}, alice, headers)]
    assert [answer.status_code for answer in answers] == [401, 403, 403]
    assert (await shop.patch("/users/2", json={}, headers=queen)).status_code == 422
    assert (await shop.patch("/users/99", json={"role": "admin"}, headers=queen)).status_code == 404


async def test_many_logins_at_once_all_succeed(shop: AsyncClient) -> None:
    answers = await asyncio.gather(*(log_in(shop, "alice", "wonderland") for _ in range(12)))
    assert {answer.status_code for answer in answers} == {200}
