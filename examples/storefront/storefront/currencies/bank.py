"""The bank: a service of others, which is slow, asked as seldom as can be, and not always there."""

from collections.abc import Awaitable, Callable

import httpx
from pydantic import BaseModel, ValidationError

from storefront.errors import Unavailable
from storefront.settings import Settings
from tiercel import Cache

RatesOf = Callable[[str], Awaitable[dict[str, float]]]


class Answer(BaseModel):
    """What the bank says."""

    rates: dict[str, float]


def remembered(cache: Cache, http: httpx.AsyncClient, settings: Settings) -> RatesOf:
    """Make the question of one application. Workers that share its cache ask once for all.

    While the bank is down yesterday's rates are better than none: `stale_if_error`.
    """
    ask = cache.memoize(ttl=settings.bank_rates_lifetime, stale_if_error="1d", key=_by_base, tags="rates:{base}")(
        rates_of
    )

    async def remembering(base: str) -> dict[str, float]:
        return await ask(http, settings.bank_url, base)

    return remembering


async def rates_of(http: httpx.AsyncClient, url: str, base: str) -> dict[str, float]:
    """Ask the bank what one unit of `base` is worth, or raise `Unavailable`."""
    try:
        answer = await http.get(f"{url}/rates/{base}")
        answer.raise_for_status()
        return Answer.model_validate_json(answer.content).rates
    except (httpx.HTTPError, ValidationError) as error:
        raise Unavailable("the bank does not tell its rates") from error


def _by_base(http: httpx.AsyncClient, url: str, base: str) -> str:  # noqa: ARG001 - the arguments of what is remembered
    return base
