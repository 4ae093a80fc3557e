"""Examples for the OpenAPI document, by the name of the schema. A test sees that the service takes and sends them."""

from collections.abc import Mapping
from typing import Any

_LOGIN = {"grant_type": "password", "username": "alice", "password": "wonderland", "scope": "products:write"}
_REFRESH = {"refresh_token": "4f6f9d5c52a14ed8b1fd1c77c5b7f4e4.wGmO3hYx8Tt0m1cQyqkZ5o9s2VbXnR7uLJfDpEa6iKs"}
_PRODUCT = {"id": 1, "carat": 0.23, "cut": "Ideal", "color": "E", "clarity": "SI2"}
_SIZE = {"x": 3.95, "y": 3.98, "z": 2.43}

EXAMPLES: Mapping[str, Any] = {
    # what is sent to us
    "Body_v1_log_in": _LOGIN,
    "Body_v2_log_in": _LOGIN,
    "Body_v1_refresh": _REFRESH,
    "Body_v2_refresh": _REFRESH,
    "UserChange": {"scopes": "products:write", "role": "customer"},
    "ProductIn": {
        "carat": 0.71,
        "cut": "Very Good",
        "color": "G",
        "clarity": "VS2",
        "depth": 62.1,
        "table": 57,
        "x": 5.69,
        "y": 5.73,
        "z": 3.55,
        "price": 2757,
        "stock": 3,
    },
    "ProductChange": {"price": 330},
    "OrderIn": {"lines": [{"product_id": 2, "quantity": 1}]},
    "ReviewIn": {"stars": 5, "text": "It sparkles."},
    "Operation": {
        "query": "query Product($id: Int!) { product(id: $id) { price stock rating { mean } } }",
        "variables": {"id": 1},
    },
    # what we send
    "storefront__catalogue__schemas__ProductOut": {
        **_PRODUCT,
        "depth": 61.5,
        "table": 55.0,
        **_SIZE,
        "price": 326,
        "stock": 1,
        "version": 1,
    },
    "storefront__catalogue__schemas_v2__ProductOut": {
        "id": 1,
        "carat": 0.23,
        "grades": {"cut": "Ideal", "color": "E", "clarity": "SI2"},
        "size": {**_SIZE, "depth_percent": 61.5, "table_percent": 55.0},
        "price": {"amount": 326, "currency": "USD"},
        "stock": 1,
        "version": 1,
    },
    "Facets": {
        "total": 5,
        "cut": [{"value": "Fair", "count": 5}],
        "color": [{"value": "J", "count": 5}],
        "clarity": [{"value": "I1", "count": 5}],
        "price": [{"low": 1000, "high": 2000, "count": 5}],
    },
    "PriceStatistics": {
        "cut": "Fair",
        "color": "D",
        "count": 163,
        "min": 536,
        "max": 16386,
        "mean": 4291.06,
        "median": 3730.0,
    },
    "Trend": {"base": 4668.82, "exponent": 1.6758, "count": 53940},
    "Grading": {
        "cut": ["Fair", "Good", "Very Good", "Premium", "Ideal"],
        "color": ["J", "I", "H", "G", "F", "E", "D"],
        "clarity": ["I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"],
    },
    "Converted": {"amount": 299.92, "currency": "EUR"},
    "Token": {
        "access_token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxIn0.KrOT5R8yJ2xI9VYm",
        "token_type": "bearer",
        "expires_in": 900,
        "scope": "products:write",
        "refresh_token": _REFRESH["refresh_token"],
    },
    "UserOut": {"id": 1, "name": "alice", "full_name": "Alice", "scopes": "products:write", "role": "customer"},
    "OrderOut": {
        "id": 1,
        "placed_at": "2026-03-02T08:30:00Z",
        "lines": [{"product_id": 2, "quantity": 1, "price": 326}],
        "total": 326,
    },
    "ReviewOut": {
        "id": 1,
        "product_id": 1,
        "stars": 5,
        "text": "It sparkles.",
        "written_at": "2026-03-02T08:30:00Z",
    },
    "FileOut": {
        "id": "5b1f0c9d2e7a4f6081c3d5e7",
        "product_id": 1,
        "name": "ring.png",
        "kind": "image/png",
        "size": 33,
        "digest": "4ffd8bb30991e3a6f28d1d03f1aedcd02ccf8e0cc16bb9e969e7bc2bda1ddf03",
        "uploaded_at": "2026-03-02T08:30:00Z",
    },
    "Bestseller": {"product_id": 2, "quantity": 1, "revenue": 326},
    "ChangeOut": {
        "product_id": 2,
        "price": 326,
        "stock": 0,
        "version": 2,
        "changed_at": "2026-03-02T08:30:00Z",
    },
    "Result": {"data": {"product": {"price": 326, "stock": 1, "rating": {"mean": None}}}},
    "Health": {"status": "ok"},
    "Readiness": {"database": "ok", "store": "ok"},
}

PROBLEMS: Mapping[int, Mapping[str, Any]] = {
    400: {"detail": "this is not a cursor of ours: take it from the member `next` of a page"},
    401: {"detail": "this needs a token: see POST /api/v1/token"},
    403: {"detail": "this needs the scope products:write"},
    404: {"detail": "there is no product 53941"},
    409: {"detail": "there are no 2 of product 2"},
    413: {"detail": "a body has at most 1,000,000 bytes"},
    422: {
        "detail": "the request does not fit: see errors",
        "errors": [
            {"loc": ["query", "limit"], "msg": "Input should be less than or equal to 100", "type": "less_than_equal"}
        ],
    },
    429: {"detail": "too many requests: try again in 7 s"},
    503: {"detail": "the bank does not tell its rates"},
}
"""The members `detail` and `errors` of one problem for each status."""
