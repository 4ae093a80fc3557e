"""Tag templates are checked before the first call."""

import pytest

from tiercel._core.templates import check_template
from tiercel.errors import ConfigurationError

ARGUMENTS = ("product_id", "user", "filters")


@pytest.mark.parametrize(
    "template",
    [
        "products",
        "",
        "product:{product_id}",
        "product:{product_id}:{user.id}",
        "filter:{filters[colour]}",
        "product:{product_id:>08}",
        "product:{product_id!r}",
        "{{braces}}:{product_id}",
        "product:{product_id:{user}}",
    ],
)
def test_names_of_arguments_are_accepted(template: str) -> None:
    check_template(template, ARGUMENTS, "load()")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("product:{id}", r"load\(\) names 'id', which is none of its arguments \(product_id, user, filters\)"),
        ("product:{id.of}", "'id'"),
        ("product:{ids[0]}", "'ids'"),
        ("product:{product_id:{width}}", "'width'"),
        ("product:{}", "has a place without a name"),
        ("product:{0}", "has a place without a name"),
        ("product:{product_id", "cannot be read"),
        ("product}", "cannot be read"),
        ("product:{product_id!}", "cannot be read"),
    ],
)
def test_anything_else_is_told_with_what_to_do(template: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        check_template(template, ARGUMENTS, "load()")


def test_where_there_are_no_arguments_that_is_said() -> None:
    with pytest.raises(ConfigurationError, match=r"none of its arguments \(none\)"):
        check_template("{id}", (), "load()")
