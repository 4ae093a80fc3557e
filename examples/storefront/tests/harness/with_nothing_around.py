"""The storefront without what stands around it: so `tiercel serve` can answer hits where the bytes arrive."""

from starlette.types import ASGIApp

from storefront.main import assembled
from storefront.parts import Parts
from storefront.settings import settings_of_the_environment


def create() -> ASGIApp:
    """An application of FastAPI, with its cache."""
    return assembled(Parts.made_for(settings_of_the_environment()))
