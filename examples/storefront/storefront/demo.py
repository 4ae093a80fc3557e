"""Prints five lines to try while the storefront runs: `python -m storefront.demo`; `PORT` says where it listens."""

import os

from rich.console import Console

LINES = (
    (
        "twice. Cache-Status: first fwd=uri-miss; stored, then hit; ttl=..., and Age",
        "curl -si URL/api/v1/products/1",
    ),
    (
        "Cache-Status: hit. The route does not read utm_source, so it is the same entry",
        "curl -si 'URL/api/v1/products/1?utm_source=mail'",
    ),
    (
        "twice. 200 with an ETag, after a walk over all 53,940 prices; then 304 Not Modified, with no SQL",
        "curl -si --etag-save /tmp/storefront.etag --etag-compare /tmp/storefront.etag URL/api/v1/stats/prices",
    ),
    (
        "twice. Cache-Control: private; the hit is Alice's alone, and her token was checked for it",
        """TOKEN=$(curl -s URL/api/v1/token -d username=alice -d password=wonderland | cut -d'"' -f4)
curl -si URL/api/v1/me -H "Authorization: Bearer $TOKEN\"""",
    ),
    (
        "and then the first line again: not a hit, and it has the new price and version",
        """curl -si -X PATCH URL/api/v1/products/1 -H "Authorization: Bearer $TOKEN" --json '{"price": 330}'""",
    ),
)
"""What to look at, and what to type."""


def main() -> None:
    """Print the lines, for the port of the environment."""
    console = Console(highlight=False, soft_wrap=True)
    url = f"http://127.0.0.1:{os.environ.get('PORT', '8000')}"
    console.print(
        f"The storefront is at {url}, its interactive documentation at {url}/docs. Try in another terminal:\n"
    )
    for look, line in LINES:
        console.print(f"# {look}", style="dim", markup=False)
        console.print(line.replace("URL", url), markup=False, end="\n\n")


if __name__ == "__main__":
    main()
