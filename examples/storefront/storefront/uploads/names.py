"""Names of files: what a client calls them is told again, and never a path."""

from string import ascii_letters, digits
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import AfterValidator, Field

from storefront.uploads.kinds import SUFFIXES, Kind

LONGEST = 200
PLAIN = frozenset(ascii_letters + digits + " !#$&'()+,-.;=@[]^_`{}~")
"""What every reader of a quoted string takes for itself, RFC 9110 §5.6.4: no quotes, no backslash, no percent sign."""
ATTRIBUTE = "!#$&+-.^_`|~"
"""What stands for itself in an extended value, beside letters and digits: RFC 8187 §3.2.1."""


def _harmless(name: str) -> str:
    # Nothing invisible: a mark that turns the direction of writing makes a program look like a picture.
    if not name.isprintable() or "/" in name or "\\" in name or not name.strip(". "):
        raise ValueError("a name is printable, has no slashes, and is more than dots")
    return name


FileName = Annotated[str, Field(min_length=1, max_length=LONGEST - 5), AfterValidator(_harmless)]
"""As the client gives it."""


def ending_as(name: str, kind: Kind) -> str:
    """Make the name end as those of its kind do: what is no page is not saved as `page.html` either."""
    return name if name.lower().endswith(SUFFIXES[kind]) else name + SUFFIXES[kind][0]


def disposition(how: Literal["inline", "attachment"], name: str) -> str:
    """Write a Content-Disposition, RFC 6266 §4: the name for every reader, and as it is for those that can read it."""
    plain = "".join(sign if sign in PLAIN else "_" for sign in name)
    extended = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe=ATTRIBUTE)}"
    return f'{how}; filename="{plain}"{extended}'
