"""Fail when a page of the built documentation would load anything from elsewhere."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

LOADING = {"link": "href", **dict.fromkeys(["audio", "iframe", "img", "script", "source", "video"], "src")}
OUTSIDE = re.compile(r"(?:https?:)?//", re.IGNORECASE)
STYLE_OUTSIDE = re.compile(r"""(?:@import\s+|url\()\s*["']?((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)


class Page(HTMLParser):
    """Collects what a browser would fetch from other hosts to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at one element."""
        given = dict(attrs)
        address = given.get(LOADING.get(tag, "")) or ""
        if OUTSIDE.match(address):
            self.outside.append(f"<{tag}> {address}")


def loaded_from_outside(site: Path) -> list[str]:
    """Say which file loads what."""
    found: list[str] = []
    for path in sorted(site.rglob("*.html")):
        page = Page()
        page.feed(path.read_text())
        found += [f"{path}: {address}" for address in page.outside]
    for path in sorted([*site.rglob("*.css"), *site.rglob("*.html")]):
        found += [f"{path}: {address}" for address in STYLE_OUTSIDE.findall(path.read_text())]
    return found


def main() -> None:
    """Check the site whose folder is given."""
    if found := loaded_from_outside(Path(sys.argv[1])):
        sys.exit("Loaded from elsewhere:\n" + "\n".join(found))


if __name__ == "__main__":
    main()
