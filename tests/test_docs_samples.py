"""What the documents show as an example works: commands exist, configurations load, JSON is JSON, the site builds."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from dlqueue.cli.main import program
from dlqueue.config import ConfigError, load
from dlqueue.downloads.registry import find_kinds

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])


def blocks(language: str) -> list[Any]:
    """All the blocks of a language, each under the name of its page and its number there."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for number, match in enumerate(re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)):
            found.append(pytest.param(match, id=f"{page.name}-{number}"))
    return found


def commands(script: str) -> Iterator[list[str]]:
    """The calls of dlqueue in a shell script, each as its words; what other programs do is their affair."""
    for line in script.replace("\\\n", " ").splitlines():
        for part in re.split(r"\||&&|;|\$\(", line):
            words = part.strip().rstrip(")").rstrip("&").removeprefix("sudo ")
            if re.match(r"(\.venv/bin/)?dlqueue( |$)", words):
                yield shlex.split(words, comments=True)[1:]


@pytest.mark.parametrize("script", blocks("sh"))
def test_commands_are_taken_as_they_are_printed(script: str) -> None:
    for words in commands(script):
        # A placeholder in capitals stands for any number of values.
        check(program, [re.sub(r"\.\.\.$", "", word) for word in words if not re.match(r"[<>]|2>", word)])


def check(command: click.Command, words: list[str]) -> None:
    """:raises click.UsageError: it has no such option or subcommand."""
    context = click.Context(command)
    rest = command.make_parser(context).parse_args(list(words))[1]
    if isinstance(command, click.Group) and rest:
        found = command.get_command(context, rest[0])
        assert found is not None, f"no command {rest[0]!r}"
        check(found, rest[1:])


@pytest.mark.parametrize("text", blocks("toml"))
def test_configurations_can_be_used(text: str, tmp_path: Path) -> None:
    given = tomllib.loads(text)
    if "project" in given or 'kind = "copy"' in text:  # of a package; of the plug-in that the guide is about
        return
    named = {name for route in given.get("routes", ()) for name in route["use"]} - given.get("downloaders", {}).keys()
    others = "".join(f'\n[downloaders.{name}]\nkind = "http"\n' for name in sorted(named))
    file = tmp_path / "dlqueue.toml"
    file.write_text(text + others, encoding="utf-8")
    kinds = find_kinds()
    try:
        environ = {"HOME": str(tmp_path), "CREDENTIALS_DIRECTORY": str(tmp_path)}
        load(file, mode="user", kinds=kinds.usable, broken=kinds.broken, environ=environ)
    except ConfigError as error:
        # Files and folders that are not on this machine are none of its faults.
        wrong = [p for p in error.problems if not re.search(r"cannot be read|does not exist", str(p))]
        assert wrong == []


@pytest.mark.parametrize("text", blocks("json"))
def test_json_is_json(text: str) -> None:
    for line in text.splitlines() if text.count("\n{") else [text]:
        json.loads(line)


@pytest.mark.parametrize("text", blocks("python"))
def test_python_is_python(text: str) -> None:
    compile(textwrap.dedent(text), "sample", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_reference_is_of_this_program() -> None:
    done = subprocess.run([sys.executable, DOCS / "reference.py", "--check"], check=False, timeout=60)
    assert done.returncode == 0, "run: make docs"


def test_every_page_is_in_the_site() -> None:
    listed = re.findall(r'"([\w-]+\.md)"', (DOCS / "zensical.toml").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(path.name for path in DOCS.glob("*.md"))


def test_the_site_builds(tmp_path: Path) -> None:
    copy = tmp_path / "docs"
    shutil.copytree(DOCS, copy, ignore=shutil.ignore_patterns("site", ".cache", "__pycache__"))
    done = subprocess.run(
        [Path(sys.executable).with_name("zensical"), "build", "--strict", "-f", copy / "zensical.toml"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for page in DOCS.glob("*.md"):
        built = (copy / "site" / page.with_suffix(".html").name).read_text(encoding="utf-8")
        # Whoever reads it asks nobody else for anything.
        assert re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="https?://', built) == []
