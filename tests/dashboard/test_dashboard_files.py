"""The files of the dashboard, without a browser."""

from __future__ import annotations

import re
from pathlib import Path

import dlqueue.transports

FILES = Path(dlqueue.transports.__file__).parent / "dashboard"


def test_every_module_is_named_in_the_page() -> None:
    page = (FILES / "index.html").read_text()
    preloaded = set(re.findall(r'<link rel="modulepreload" href="([^"]+)">', page))
    modules = {str(path.relative_to(FILES)) for path in FILES.rglob("*.js")}
    assert preloaded == modules - {"app.js", "vendor/uplot.js"}


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    page = (FILES / "index.html").read_text()
    assert re.findall(r"<script(?![^>]* src=)", page) == []
    assert re.findall(r"<style| style=| on[a-z]+=", page) == []
    for path in (*FILES.rglob("*.html"), *FILES.rglob("*.css"), *FILES.rglob("*.js")):
        if path.parent.name != "vendor":
            assert re.findall(r"(?:src|href|import|from|url\()\W*(?:https?:)?//", path.read_text()) == [], path


def test_no_text_becomes_markup() -> None:
    for path in FILES.rglob("*.js"):
        if path.parent.name != "vendor":
            found = re.findall(
                r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function", path.read_text()
            )
            assert found == [], path


def test_every_library_has_its_licence() -> None:
    table = (FILES / "vendor" / "README.md").read_text()
    for path in (FILES / "vendor").iterdir():
        assert path.name == "README.md" or f"`{path.name}`" in table, path
    assert len(list((FILES / "vendor").glob("*.LICENSE"))) == 3
