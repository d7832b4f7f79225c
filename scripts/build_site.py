"""Build the documentation's site from docs/ and the project's other pages into site/. Run by ``make docs``.

The pages are plain Markdown that reads as well in the repository, where a link may lead out of docs/. So the site is
built from a copy: a few pages from outside have a place in it, and every other linked file is copied beside them. The
build is strict; afterwards every page is checked to load nothing from another host. Needs the generator and Python's
standard library alone.
"""

import html.parser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / ".site" / "pages"
SITE = ROOT / "site"
# Pages that stand elsewhere in the repository, by their place in the site.
PROJECT_PAGES = {
    "SECURITY.md": "project/security.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "schemas/README.md": "reference/schemas.md",
}
# The README leads into the documentation; there its beginning has this place.
PLACES = {**PROJECT_PAGES, "README.md": "index.md"}
_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
_FENCE = re.compile(r"^( *)(```+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
# The generator loads this script from another host, so that workers run in pages that are opened as files.
_SHIM_ELSEWHERE = "https://unpkg.com/iframe-worker/shim"
_SHIM = "assets/iframe-worker.js"


def main() -> None:
    """Build the site; end with a message if a link leads nowhere or a page loads something from another host."""
    shutil.rmtree(ROOT / ".site", ignore_errors=True)
    shutil.copytree(ROOT / "docs", COPY)
    assets = COPY / "assets"
    assets.mkdir()
    for name in ("iframe-worker.js", "iframe-worker.LICENSE", "site.css"):
        shutil.copy(ROOT / "scripts" / "site" / name, assets / name)
    places = {path: path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    places |= {ROOT / name: place for name, place in PLACES.items()}
    for source, place in list(places.items()):
        if source.name != "README.md" or source.parent != ROOT:
            target = COPY / place
            target.parent.mkdir(exist_ok=True)
            target.write_text(with_links_of_the_site(source, place, places))
    built = subprocess.run(
        [Path(sys.executable).with_name("zensical"), "build", "--clean", "--strict"],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        # The traceback below the findings says nothing more.
        sys.exit(plain(built.stdout + built.stderr).partition("Traceback (most recent")[0])
    for page in SITE.rglob("*.html"):
        up = "../" * (len(page.relative_to(SITE).parts) - 1)
        page.write_text(page.read_text().replace(_SHIM_ELSEWHERE, up + _SHIM))
    if found := loads_from_elsewhere() + links_to_nothing():
        sys.exit("\n".join(found))
    print(f"{len(list(SITE.rglob('*.html')))} pages: {SITE / 'index.html'}")


def with_links_of_the_site(source: Path, place: str, places: dict[Path, str]) -> str:
    """Return the text of a page, in which every link to a file of the repository leads to its copy in the site."""
    here = Path(place).parent

    def linked(found: re.Match[str]) -> str:
        link = found[2]
        if re.match(r"[a-z]+:", link):
            return found[0]
        target = (source.parent / link).resolve()
        if not target.exists():
            # The strict build names the place.
            return found[0]
        if target not in places and target.is_relative_to(ROOT / "docs"):
            places[target] = target.relative_to(ROOT / "docs").as_posix()
        if target not in places:
            copied = COPY / "files" / target.relative_to(ROOT)
            copied.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                sys.exit(f"{source.relative_to(ROOT)}: {link} is a directory; link to a file of it")
            shutil.copy(target, copied)
            places[target] = copied.relative_to(COPY).as_posix()
        return f"{found[1]}{os.path.relpath(places[target], here)}{found[3] or ''}{found[4]}"

    text, parts, end = source.read_text(), list[str](), 0
    for fence in _FENCE.finditer(text):
        parts += [_LINK.sub(linked, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(linked, text[end:])])


def plain(text: str) -> str:
    """Return a text without the colours of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


class Loaded(html.parser.HTMLParser):
    """What a page loads, what it links to, and the places in it that links may name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag loads, links to or names."""
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if tag == "link" and given.get("rel") not in {"canonical", "next", "prev"}:
            self.loaded.append(given.get("href", ""))
        if tag != "a":
            self.loaded += [given[name] for name in ("src", "data", "poster") if name in given]
        elif "href" in given:
            self.linked.append(given["href"])


def loads_from_elsewhere() -> list[str]:
    """Return a line for each thing that a page or a style sheet loads from another host."""
    found = [
        f"{page.relative_to(SITE)} loads {address}"
        for page in SITE.rglob("*.html")
        for address in Loaded(page.read_text()).loaded
        if re.match(r"(https?:)?//", address)
    ]
    for sheet in SITE.rglob("*.css"):
        addresses = re.findall(r"(?:url\(|@import )\s*[\"']?((?:https?:)?//[^\"')]+)", sheet.read_text())
        found += [f"{sheet.relative_to(SITE)} loads {address}" for address in addresses]
    return found


def links_to_nothing() -> list[str]:
    """Return a line for each link of a page that leads to no page, or to no place in it."""
    pages = {page.resolve(): Loaded(page.read_text()) for page in SITE.rglob("*.html")}
    found = list[str]()
    for page, loaded in pages.items():
        if page.name == "404.html":
            # Its links begin at the root of a server.
            continue
        for link in loaded.linked:
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if target.is_dir():
                target /= "index.html"
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].places):
                found.append(f"{page.relative_to(SITE)}: {link} leads nowhere")
    return found


if __name__ == "__main__":
    main()
