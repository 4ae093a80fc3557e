"""The OpenAPI document, and a page that shows it. Neither is there in production."""
