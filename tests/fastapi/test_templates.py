"""Tag templates are checked before the first request."""

import pytest

from tiercel.errors import ConfigurationError
from tiercel.fastapi._templates import check_template

ARGUMENTS = {"product_id", "user", "filters"}


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
    check_template(template, ARGUMENTS, "GET /products")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("product:{id}", "'id', which is not an argument of the endpoint (its arguments: filters, product_id, user)"),
        ("product:{id.of}", "'id'"),
        ("product:{ids[0]}", "'ids'"),
        ("product:{product_id:{width}}", "'width'"),
        ("product:{}", "without a name"),
        ("product:{0}", "without a name"),
        ("product:{product_id", "cannot be read"),
        ("product}", "cannot be read"),
        ("product:{product_id!}", "cannot be read"),
    ],
)
def test_what_cannot_be_filled_in_is_an_error_that_says_what_where_and_what_to_do(template: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        check_template(template, ARGUMENTS, "GET /products (shop.read)")
    message = str(raised.value)
    assert repr(template) in message
    assert "GET /products (shop.read)" in message
    assert says in message


def test_an_endpoint_without_arguments_has_no_names() -> None:
    with pytest.raises(ConfigurationError, match="its arguments: none"):
        check_template("product:{product_id}", (), "GET /")
    with pytest.raises(ConfigurationError, match=r"such as \{product_id\}"):
        check_template("product:{}", (), "GET /")
