"""Tag templates, checked before the first call: `product:{product_id}`."""

from collections.abc import Collection, Iterator
from string import Formatter

from tiercel.errors import ConfigurationError


def check_template(template: str, arguments: Collection[str], where: str) -> None:
    """Raise ConfigurationError unless every name in a template is an argument of `where`."""
    try:
        fields = list(_fields(template))
    except ValueError as error:
        message = f"The tag template {template!r} of {where} cannot be read: {error}. Write braces as {{{{ and }}}}."
        raise ConfigurationError(message) from error
    for field in fields:
        name = field.partition(".")[0].partition("[")[0]
        if not name or name.isdigit():
            message = f"The tag template {template!r} of {where} has a place without a name. Name an argument in it."
            raise ConfigurationError(message)
        if name not in arguments:
            known = ", ".join(arguments) or "none"
            message = (
                f"The tag template {template!r} of {where} names {name!r}, which is none of its arguments ({known}). "
                "Correct the name, add the argument, or give `tags` a callable."
            )
            raise ConfigurationError(message)


def _fields(template: str) -> Iterator[str]:
    for _, field, spec, _ in Formatter().parse(template):
        if field is not None:
            yield field
            yield from _fields(spec or "")
