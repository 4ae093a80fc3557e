"""Which request fields were read while a response was made.

The names in `scope["headers"]` of a fill are instances of a `bytes` subclass. A comparison tells its watch what a name
was compared with, whether or not the field was there; copies of the list keep that. Whatever else is done with a name
(hashing, decoding, iterating, slicing, printing...) lets its reader learn names without telling which it wanted: then
everything counts as read.

What CPython does with a name in C, past every method, cannot be seen: `b"".join`, `b"%s" % name`, `re` and other
functions that take a buffer, `str(name, encoding)`, `name in b"..."`, `b"...".startswith(name)`,
`hmac.compare_digest`. Neither can values be seen that are read without their names.
"""

from collections.abc import Callable, Iterable
from inspect import currentframe
from types import CodeType
from typing import Any, SupportsIndex

from tiercel._core.entry import Header, Headers
from tiercel._core.keys import EVERY, HARMLESS


class Watch:
    """What has been read of one request's fields.

    Args:
        headers: The fields of the request.
        own: Code of the framework that looks `cookie` up for every request, whether or not anybody wants cookies.
        through: Code that such a lookup goes through on its way.
    """

    __slots__ = ("_headers", "_own", "_shown", "_through", "blind", "everything", "names")

    def __init__(
        self,
        headers: Headers,
        own: frozenset[CodeType] = frozenset(),
        through: frozenset[CodeType] = frozenset(),
    ) -> None:
        self._headers = headers
        self._own = own
        self._through = through
        self._shown: list[Headers] = []
        self.names: set[bytes] = set()
        """What names were compared with, lower-case."""
        self.everything = False
        """Somebody may have read any field, and may have noticed that any other was absent."""
        self.blind = False
        """Nothing could be seen: there was no field line whose name could be compared."""

    def headers(self, headers: Headers | None = None) -> list[Header]:
        """Those of the request, or these in their place, for the scope of whoever is watched."""
        shown = plain(self._headers if headers is None else headers)
        self.blind = self.blind or not shown
        self._shown.append(shown)
        return [(_watched(name, self), value) for name, value in shown]

    def missing(self, headers: Headers) -> list[bytes]:
        """Names and values of the request's lines that are not among these any more: somebody has taken them out."""
        left = set(headers)
        gone = [line for line in plain(self._headers) if line not in left and line[0] not in HARMLESS]
        return [part for line in gone for part in line]

    def observed(self) -> frozenset[bytes]:
        """The names of the fields that select the response.

        Where any field may have been read, all together do, with which are absent. Those that are present are named as
        well, for the Vary that caches outside us read.
        """
        if self.everything:
            present = [name.lower() for shown in self._shown for name, _ in shown]
            return frozenset({EVERY, *self.names, *present} - HARMLESS)
        return frozenset(self.names - HARMLESS)

    def compared(self, other: object) -> None:
        """Take note of what a name was compared with."""
        if isinstance(other, bytes):
            name = bytes.lower(other)
        elif isinstance(other, bytearray):
            name = bytes(other).lower()
        elif isinstance(other, memoryview):
            name = other.tobytes().lower()
        else:
            return
        if name not in self.names and not (name == b"cookie" and self._is_own()):
            self.names.add(name)

    def _is_own(self) -> bool:
        if not self._own:
            return False
        frame = currentframe()
        for _ in range(3):  # past this, `compared`, and the comparison of the name
            frame = frame and frame.f_back
        while frame is not None and frame.f_code in self._through:
            frame = frame.f_back
        return frame is not None and frame.f_code in self._own


def plain(headers: Iterable[Header]) -> list[Header]:
    """The same field lines with names that tell nobody: for whoever reads them on behalf of the cache."""
    return [(bytes.__getitem__(name, _ALL) if type(name) is _Name else name, value) for name, value in headers]


_ALL = slice(None)
_equal = bytes.__eq__


class _Name(bytes):
    """A field name that tells its watch how it is read."""

    watch: Watch

    def __eq__(self, other: object) -> bool:
        if type(other) is not bytes or other not in self.watch.names:  # else it is known already
            self.watch.compared(other)
        return _equal(self, other)

    def __ne__(self, other: object) -> bool:
        self.watch.compared(other)
        return bytes.__ne__(self, other)

    def __hash__(self) -> int:
        self.watch.everything = True
        return bytes.__hash__(self)

    def __radd__(self, other: bytes) -> bytes:
        self.watch.everything = True
        return bytes.__add__(other, self)

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> tuple[type[bytes], tuple[bytes]]:
        self.watch.everything = True
        return bytes, (bytes.__getitem__(self, _ALL),)

    def __copy__(self) -> "_Name":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Name":
        return self

    def lower(self) -> "_Name":
        return _watched(bytes.lower(self), self.watch)


def _watched(name: bytes, watch: Watch) -> _Name:
    told = _Name(name)
    told.watch = watch
    return told


def _telling(method: str) -> Callable[..., object]:
    original: Callable[..., object] = getattr(bytes, method)

    def read(self: _Name, *args: object, **kwargs: object) -> object:
        self.watch.everything = True
        return original(self, *args, **kwargs)

    return read


_SILENT = frozenset(
    {
        # How objects are made and looked at as objects: none tells what the bytes are.
        *("__class__", "__delattr__", "__dir__", "__doc__", "__getattribute__", "__init__", "__init_subclass__"),
        *(
            "__new__",
            "__setattr__",
            "__sizeof__",
            "__subclasshook__",
            "__getstate__",
            "__reduce__",
            "fromhex",
            "maketrans",
        ),
        # Written for C: a wrapper in Python would not see more, and would slow every use.
        *("__buffer__", "__release_buffer__"),
    }
)

for _method in dir(bytes):
    if _method not in _SILENT and _method not in vars(_Name):
        setattr(_Name, _method, _telling(_method))
