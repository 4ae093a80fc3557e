"""Requests made up from the OpenAPI document, by schemathesis: those that fit it, and those that do not."""

# schemathesis leaves some of its types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeArgument=false

import sqlite3
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import small_bank
from anyio.from_thread import BlockingPortal, start_blocking_portal
from httpx import ASGITransport, AsyncClient, Response
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as examples
from hypothesis import strategies as st
from requests import Request
from rich.console import Console
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import response_schema_conformance
from shop_client import bearer, client_of, lifespan, sqlite

from storefront.catalogue import queries
from storefront.load import load
from storefront.main import assembled, surrounded
from storefront.parts import Parts
from storefront.settings import Settings

EXAMPLES = 10
"""Of each operation, of each kind."""

LAST = ("/logout", "/users/{user_id}")
"""Operations after which she who asks may do less: they come last."""

ENDLESS = ("/live/stock/events",)
"""An answer that goes on for ever is not one that could be looked at whole."""

Operation = APIOperation[Any, Any, Any, Any]


@pytest.fixture
def shop_of_three(three: Path, tmp_path: Path) -> Iterator[Settings]:
    """A database of three products, whose ids a made-up request often meets; Alice may do everything; and a bank."""
    with small_bank.running() as bank:
        file = tmp_path / "three.db"
        made = sqlite(file).model_copy(update={"catalogue": three, "bank_url": bank.url})
        load(made, Console(quiet=True))
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE users SET role = 'admin', scopes = 'products:write users:write' WHERE id = 1")
        yield made


@asynccontextmanager
async def asked(settings: Settings, *, by_alice: bool) -> AsyncGenerator[AsyncClient]:
    """A client of the whole application; all of it in one event loop."""
    app = surrounded(Parts.made_for(settings))
    async with lifespan(app), client_of(app) as shop:
        shop.headers.update(await bearer(shop, "alice", "wonderland") if by_alice else {})
        yield shop


def operations(settings: Settings) -> list[Operation]:
    """Each that there is and ends; what the versions of the API share is taken once."""
    document = assembled(Parts.made_for(settings)).openapi()
    found = [
        each.ok() for each in schemathesis.openapi.from_dict(document).get_all_operations() if isinstance(each, Ok)
    ]
    found = [each for each in found if not each.path.endswith(ENDLESS)]
    labels = {each.label for each in found}
    once = [each for each in found if each.label.replace("/v2/", "/v1/") not in labels - {each.label} or _own(each)]
    return sorted(once, key=lambda each: each.path.endswith(LAST))


def _own(operation: Operation) -> bool:
    """Whether the second version has one of its own."""
    return operation.path.endswith(("/products", "/products/{product_id}"))


def can_be_wrong(operation: Operation) -> bool:
    return bool(operation.body or operation.query or operation.path_parameters or operation.headers)


async def answered(shop: AsyncClient, case: Case[Any], real: int | None) -> Response:
    """Send it as `requests` would write it; with the id of something real in its path, if one is given."""
    if real is not None:
        case.path_parameters = dict.fromkeys(case.path_parameters or {}, real)
    request = Request(**case.as_transport_kwargs(base_url="http://shop")).prepare()
    body = request.body
    assert body is None or isinstance(body, (str, bytes))
    headers = [(name, str(value)) for name, value in request.headers.items() if name.lower() != "content-length"]
    return await shop.request(str(request.method), str(request.url), headers=headers, content=body)


def tried(portal: BlockingPortal, shop: AsyncClient, operation: Operation, mode: GenerationMode) -> set[int]:
    """The statuses of what it answered, none of which may be 5xx, nor look other than the document says."""
    statuses = set[int]()

    @seed(53_940)
    @examples(
        max_examples=EXAMPLES,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(case=operation.as_strategy(generation_mode=mode), real=st.sampled_from([None, 1, 2, 3]))
    def each(case: Case[Any], real: int | None) -> None:
        answer = portal.call(answered, shop, case, real)
        statuses.add(answer.status_code)
        case.validate_response(answer, checks=[not_a_server_error, response_schema_conformance])

    each()
    return statuses


@pytest.mark.parametrize("by_alice", [False, True], ids=["nobody", "alice"])
@pytest.mark.parametrize("mode", list(GenerationMode), ids=[mode.value for mode in GenerationMode])
def test_no_request_made_from_the_document_is_a_5xx(
    shop_of_three: Settings, mode: GenerationMode, *, by_alice: bool
) -> None:
    asking = asked(shop_of_three, by_alice=by_alice)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(asking) as shop:
        wanted = [each for each in operations(shop_of_three) if mode is GenerationMode.POSITIVE or can_be_wrong(each)]
        answers = {operation.label: tried(portal, shop, operation, mode) for operation in wanted}
    fitted = {label for label, statuses in answers.items() if min(statuses) < 400}
    assert len(answers) > 15
    assert len(fitted) >= (15 if mode is GenerationMode.POSITIVE and by_alice else 1), sorted(fitted)
    let_in = [label for label, statuses in answers.items() if 401 not in statuses and not label.endswith(LAST)]
    assert (len(let_in) == len([label for label in answers if not label.endswith(LAST)])) is by_alice


def test_a_request_that_makes_the_service_fail_is_found(
    shop_of_three: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(queries, "listed", broken)
    app = assembled(Parts.made_for(shop_of_three))
    (listing,) = [each for each in operations(shop_of_three) if each.label == "GET /api/v1/products"]
    transport = ASGITransport(app, raise_app_exceptions=False)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(AsyncClient(transport=transport, base_url="http://shop")) as shop,
        pytest.raises(FailureGroup, match="500"),
    ):
        tried(portal, shop, listing, GenerationMode.POSITIVE)
