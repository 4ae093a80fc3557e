"""Tag templates, checked before the first request: `product:{product_id}`."""

from collections.abc import Collection, Iterator
from string import Formatter

from tiercel.errors import ConfigurationError


def check_template(template: str, arguments: Collection[str], where: str) -> None:
    """See that every name in a template is an argument of the endpoint.

    Raises:
        ConfigurationError: One is not, or the template cannot be read.
    """
    try:
        fields = list(_fields(template))
    except ValueError as error:
        message = f"The tag template {template!r} of {where} cannot be read: {error}. Write braces as {{{{ and }}}}."
        raise ConfigurationError(message) from error
    for field in fields:
        name = field.partition(".")[0].partition("[")[0]
        if not name or name.isdigit():
            message = (
                f"The tag template {template!r} of {where} has a place without a name. "
                f"Name an argument in it, such as {{{_first(arguments)}}}."
            )
            raise ConfigurationError(message)
        if name not in arguments:
            known = ", ".join(sorted(arguments)) or "none"
            message = (
                f"The tag template {template!r} of {where} names {name!r}, which is not an argument of the endpoint "
                f"(its arguments: {known}). Correct the name, add the argument, or give `tags` a callable."
            )
            raise ConfigurationError(message)


def _fields(template: str) -> Iterator[str]:
    for _, field, spec, _ in Formatter().parse(template):
        if field is not None:
            yield field
            yield from _fields(spec or "")


def _first(arguments: Collection[str]) -> str:
    return min(arguments, default="product_id")
