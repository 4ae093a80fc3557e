"""The page `/docs`: Swagger UI from files of our own, which asks no other host for anything."""

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from string import Template

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from storefront.errors import NotFound
from storefront.parts import Parts

OURS = ("start.js", "look.css")
THEIRS = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")
"""Of the package fastapi-offline, which is made anew for each release of Swagger UI; we take nothing else of it."""

TYPES = {"js": "text/javascript", "css": "text/css", "png": "image/png"}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may load, and from where: nothing is inline, but the small images of a sheet."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file, named after its content: what has another content is another file, so one may keep it for ever."""

    content: bytes
    stem: str
    suffix: str

    @property
    def name(self) -> str:
        """Its place below `/docs`."""
        return f"{self.stem}.{sha256(self.content).hexdigest()[:16]}.{self.suffix}"


def router(parts: Parts) -> APIRouter:
    """Build the routes of one application."""
    routes = APIRouter(include_in_schema=False)
    assets = {asset.name: asset for asset in _assets()}
    places = {f"{each.stem}_{each.suffix}".replace("-", "_"): f"docs/{name}" for name, each in assets.items()}
    page = Template((files("storefront.reference") / "page.html").read_text("utf-8")).substitute(places)

    @routes.get("/docs")
    async def read_docs() -> HTMLResponse:
        """Show the page."""
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"})

    # What the route says of its lifetime is what browsers are told; the entity tag and the 304 are the cache's.
    @routes.get("/docs/{name}")
    @parts.cache.response(ttl="1d")
    async def read_asset(name: str) -> Response:
        """Send a file of the page."""
        if name not in assets:
            raise NotFound("there is no such file")
        return Response(
            assets[name].content,
            media_type=TYPES[assets[name].suffix],
            headers={"Cache-Control": "public, max-age=31536000, immutable"},
        )

    return routes


def _assets() -> list[Asset]:
    found = [files("storefront.reference") / name for name in OURS]
    found += [files("fastapi_offline") / "static" / name for name in THEIRS]
    return [Asset(each.read_bytes(), *each.name.rsplit(".", 1)) for each in found]
