"""Field lines: lists, hop-by-hop fields, and the cache directives in them (RFC 9110 §5, RFC 9111 §5.2, RFC 9213)."""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from tiercel._core import structured
from tiercel._core.entry import Header, Headers

INFINITE: Final = 2**31
"""What a delta-seconds too great to be represented counts as, RFC 9111 §1.2.2."""

_OWS = b" \t"
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = rb'"(?>(?:[^"\\]|\\.)*)"'
_balanced = re.compile(rb'(?>(?:[^"]++|' + _QUOTED + rb")*)", re.DOTALL)
_element = re.compile(rb'(?>(?:[^,"]++|' + _QUOTED + rb")+)", re.DOTALL)
_directive = re.compile(rb"(" + _TOKEN + rb")(?>(?:=(" + _TOKEN + rb"|" + _QUOTED + rb"))?)", re.DOTALL)
_token = re.compile(_TOKEN)
_escaped = re.compile(rb"\\(.)", re.DOTALL)


def lines(headers: Headers, name: bytes) -> list[bytes]:
    """The value of every field line of that name, in order."""
    return [value for field, value in headers if field == name]


def gathered(headers: Headers) -> dict[bytes, list[bytes]]:
    """The values of all field lines by name, for whoever asks for several names."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in found:
            found[name].append(value)
        else:
            found[name] = [value]
    return found


@lru_cache(maxsize=1024)
def _one_of_equals(line: Header) -> Header:
    return line


def shared(headers: Headers) -> tuple[Header, ...]:
    """The same lines; those that another response has lately had, too, are one object."""
    return tuple([_one_of_equals(line) if is_shared(line) else line for line in headers])


def is_shared(line: Header) -> bool:
    """Whether equal lines are one object: such as are short."""
    # Of names that record who compares them nothing is kept.
    name, value = line
    return type(line) is tuple and type(name) is type(value) is bytes and len(name) + len(value) <= _SHARED_BYTES


def combined(headers: Headers, name: bytes) -> bytes | None:
    """The field value of RFC 9110 §5.3; None where the field is absent."""
    found = lines(headers, name)
    return b", ".join(found) if found else None


def split(value: bytes) -> list[bytes]:
    """The non-empty members of a list, RFC 9110 §5.6.1. A quotation mark without its partner quotes nothing."""
    quoting = b'"' in value and _balanced.fullmatch(value)
    found = _element.findall(value) if quoting else value.split(b",")
    return [member for one in found if (member := one.strip(_OWS))]


def members(headers: Headers, name: bytes) -> list[bytes]:
    """The members of a list field, over all its lines."""
    found = lines(headers, name)
    return [member for value in found for member in split(value)] if found else found


def has_any(headers: Headers, names: frozenset[bytes]) -> bool:
    """Whether there is a field line of any of these names."""
    return not names.isdisjoint([name for name, _ in headers])


def without(headers: Headers, names: Container[bytes]) -> list[Header]:
    """The field lines but those named."""
    return [line for line in headers if line[0] not in names]


@lru_cache(maxsize=256)
def encoded(names: tuple[str, ...]) -> frozenset[bytes]:
    """Names that the program has given, as they stand in field lines."""
    return frozenset([name.encode() for name in names])


def end_to_end(headers: Headers, others: frozenset[bytes] = frozenset()) -> list[Header]:
    """The field lines that may be stored, RFC 9111 §3.1: none about this connection or a proxy, and no `others`."""
    named = [member.lower() for member in members(headers, b"connection")]
    return without(headers, _HOP_BY_HOP.union(others, named))


_Arguments = Sequence[bytes | None]
_BARE = None
_UNREADABLE = b""

# A member that does not fit the grammar still counts, at its strictest, for the words of these in it.
_WARY = frozenset({"max-age", "no-cache", "no-store", "private", "s-maxage"})
# What an unreadable argument means; any other directive's is as if it were absent.
_UNUSABLE = {
    "max-age": 0,
    "max-stale": 0,
    "min-fresh": INFINITE,
    "s-maxage": 0,
    "stale-if-error": 0,
    "stale-while-revalidate": 0,
}
# Kept parsed: longer values are not, lest a hostile peer fills memory with them.
_REMEMBERED_BYTES = 512
_SHARED_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Directives:
    """Cache directives of one field. Reading never raises: where it is in doubt, the strictest reading stands."""

    found: Mapping[str, _Arguments]

    @classmethod
    def of(cls, headers: Headers, name: bytes = b"cache-control") -> "Directives":
        """Those of a field by RFC 9111 §5.2."""
        return cls.of_lines(lines(headers, name))

    @classmethod
    def of_lines(cls, values: Sequence[bytes]) -> "Directives":
        """The same, of the lines of the field."""
        if not values:
            return NO_DIRECTIVES
        if sum(map(len, values)) <= _REMEMBERED_BYTES:
            return _remembered(tuple(values))
        return _read(tuple(values))

    @classmethod
    def targeted(cls, headers: Headers, targets: Iterable[str]) -> "Directives | None":
        """Those of the first field on the target list that is neither malformed nor empty, RFC 9213 §2.2."""
        for target in targets:
            value = combined(headers, target.lower().encode("latin-1", "replace"))
            if value is not None and (found := structured.dictionary(value)):
                return cls(found={key: (_argument(bare),) for key, bare in found.items()})
        return None

    def __contains__(self, name: str) -> bool:
        return name in self.found

    def seconds(self, name: str) -> int | None:
        """The argument as delta-seconds: the strictest of repeats, at most `INFINITE`.

        RFC 9111 §4.2.1: of a lifetime that cannot be read nothing is left.
        """
        given = self.found.get(name)
        if given is None:
            return None
        read = [seconds for one in given if (seconds := _seconds(name, one)) is not None]
        if not read:
            return None
        return max(read) if name == "min-fresh" else min(read)

    def fields(self, name: str) -> frozenset[bytes] | None:
        """The field names that the directive is limited to; None where it is absent, or anywhere without a limit."""
        named: set[bytes] = set()
        for given in self.found.get(name, (_BARE,)):
            listed = split(given.lower()) if given else []
            if not listed or not all(_token.fullmatch(one) for one in listed):
                return None
            named.update(listed)
        return frozenset(named)


NO_DIRECTIVES: Final = Directives(found={})


def _read(values: tuple[bytes, ...]) -> Directives:
    found: dict[str, list[bytes | None]] = {}
    for value in values:
        for member in split(value):
            for name, argument in _directives(member):
                found.setdefault(name, []).append(argument)
    return Directives(found=found)


_remembered = lru_cache(maxsize=512)(_read)


def _directives(member: bytes) -> list[tuple[str, bytes | None]]:
    read = _directive.fullmatch(member)
    if read is None:
        words = {word.decode().lower() for word in _token.findall(member)}
        return [(word, _UNREADABLE) for word in sorted(words & _WARY)]
    argument = read[2]
    if argument is not None and argument.startswith(b'"'):
        argument = _escaped.sub(rb"\1", argument[1:-1])
    return [(read[1].decode().lower(), argument)]


def _argument(bare: structured.Bare) -> bytes | None:
    """A value whose type the directive does not have is unreadable, a string of digits too: RFC 9213 §2.1."""
    if bare is True:
        return _BARE
    if bare is None or bare is False or (isinstance(bare, str) and bare.isdigit()):
        return _UNREADABLE
    return str(bare).encode()


def _seconds(name: str, argument: bytes | None) -> int | None:
    if argument is None and name == "max-stale":
        return INFINITE
    if argument is None or not argument.isdigit():
        return _UNUSABLE.get(name)
    digits = argument.lstrip(b"0")
    return min(int(digits or b"0"), INFINITE) if len(digits) <= len(str(INFINITE)) else INFINITE
