"""The queries that GET answers: those of the folder `persisted`, named by the SHA-256 of their text.

An allow-list, rather than queries that clients register as they go: what can be stored is bounded by what we have
written, it was validated before the first request, every worker knows it without asking anybody, and nobody can fill
the cache with queries of their own.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlencode

from graphql import OperationDefinitionNode, parse
from pydantic import TypeAdapter, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from storefront.errors import BadQuery, NotFound

PATH = "/graphql"

_OBJECT = TypeAdapter(dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A persisted query, and the values of its variables."""

    text: str
    variables: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Persisted:
    """The allow-list: text and names of the variables of each query, by hash."""

    queries: Mapping[str, tuple[str, frozenset[str]]]

    @classmethod
    def of_the_folder(cls) -> "Persisted":
        """Read it."""
        folder = files("storefront.graphql") / "persisted"
        texts = sorted(each.read_text("utf-8") for each in folder.iterdir() if each.name.endswith(".graphql"))
        return cls({sha256(text.encode()).hexdigest(): (text, _variables_of(text)) for text in texts})

    def read(self, extensions: str | None, variables: str | None, query: str | None = None) -> Asked:
        """Take the parameters of a GET apart, or raise `BadQuery`; `NotFound` where the hash is none of ours."""
        if query is not None:
            raise BadQuery("GET takes no query, and changes nothing: name a persisted one by its hash, or use POST")
        named, given = _object("extensions", extensions), _object("variables", variables)
        digest = hash_in(named)
        if digest is None:
            raise BadQuery('GET needs extensions={"persistedQuery":{"version":1,"sha256Hash":"..."}}')
        text, known = self.find(digest)
        if unknown := given.keys() - known:
            raise BadQuery(f"the query has no variables of these names: {', '.join(sorted(unknown))}")
        return Asked(text=text, variables=given)

    def find(self, digest: str) -> tuple[str, frozenset[str]]:
        """Find a query by its hash, or raise `NotFound`."""
        if digest not in self.queries:
            raise NotFound("no persisted query has this hash")
        return self.queries[digest]


def hash_in(extensions: Mapping[str, Any]) -> str | None:
    """Find the hash among the extensions of a request, if it is there."""
    match extensions:
        case {"persistedQuery": {"version": 1, "sha256Hash": str(digest)}}:
            return digest.lower()
        case _:
            return None


class Canonical:
    """Gives the parameters of a GET one spelling, before the cache looks: what is the same question has one entry.

    Anything that is not a question is left as it is: the route says what is wrong with it.
    """

    def __init__(self, app: ASGIApp, persisted: Persisted) -> None:
        self._app = app
        self._persisted = persisted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] == "http" and scope["path"] == PATH and scope["method"] in {"GET", "HEAD"}:
            scope = {**scope, "query_string": self._spelled(scope["query_string"])}
        await self._app(scope, receive, send)

    def _spelled(self, sent: bytes) -> bytes:
        given = parse_qs(sent.decode("latin-1"), keep_blank_values=True)
        if any(len(values) > 1 for values in given.values()):
            return sent
        one = {name: values[0] for name, values in given.items()}
        try:
            asked = self._persisted.read(one.get("extensions"), one.get("variables"), one.get("query"))
        except (BadQuery, NotFound):
            return sent
        digest = sha256(asked.text.encode()).hexdigest()
        said = {
            "extensions": _written({"persistedQuery": {"sha256Hash": digest, "version": 1}}),
            "variables": _written(asked.variables),
        }
        return urlencode(said).encode()


def _object(name: str, text: str | None) -> dict[str, Any]:
    try:
        return _OBJECT.validate_json(text or "{}")
    except ValidationError:
        raise BadQuery(f"{name} is not a JSON object") from None


def _written(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _variables_of(text: str) -> frozenset[str]:
    operations = [each for each in parse(text).definitions if isinstance(each, OperationDefinitionNode)]
    return frozenset(each.variable.name.value for one in operations for each in one.variable_definitions or ())
