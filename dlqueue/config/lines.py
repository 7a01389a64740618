"""Which line of a TOML file a key is on. `tomllib` does not tell."""

from __future__ import annotations

import re
import tomllib

from dlqueue.config.problems import Key

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'  # up to two quotation marks may stand before the closing three
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]+")


def key_lines(text: str) -> dict[Key, int]:
    """The line (from 1) of every table, key and list item of ``text``, which `tomllib` has accepted."""
    return _Scanner(text).lines


class _Scanner:
    """Walks the statements. It trusts that the text is valid TOML, so it only has to find where things begin."""

    def __init__(self, text: str) -> None:
        # tomllib reads CRLF as LF too; positions are only compared with this text.
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.lines: dict[Key, int] = {}
        self._line, self._counted = 1, 0
        self._items: dict[Key, int] = {}
        table: Key = ()
        while self._blank():
            if self._take("[["):
                table = self._header(item=True)
                self._expect("]]")
            elif self._take("["):
                table = self._header(item=False)
                self._expect("]")
            else:
                self._pair(table)

    def _header(self, *, item: bool) -> Key:
        line, names = self._here(), self._names()
        path: Key = ()
        for depth, name in enumerate(names, start=1):
            path += (name,)
            if item and depth == len(names):
                self._note(path, line)
                self._items[path] = self._items.get(path, -1) + 1
            if path in self._items:
                path += (self._items[path],)
            self._note(path, line)
        return path

    def _pair(self, table: Key) -> None:
        line = self._here()
        for name in self._names():
            table += (name,)
            self._note(table, line)
        self._expect("=")
        self._value(table)

    def _names(self) -> list[str]:
        names = []
        while True:
            self._blank()
            found = _STRING.match(self.text, self.at) or _BARE_KEY.match(self.text, self.at)
            assert found
            self.at = found.end()
            name = found[0]
            # The quoted key means what tomllib makes of it: escapes and all.
            names.append(next(iter(tomllib.loads(f"{name} = 0"))) if name[0] in "\"'" else name)
            self._blank()
            if not self._take("."):
                return names

    def _value(self, path: Key) -> None:
        self._blank()
        if self._take("{"):
            while self._blank() and not self._take("}"):
                self._pair(path)
                self._blank()
                self._take(",")
        elif self._take("["):
            index = 0
            while self._blank() and not self._take("]"):
                self._note((*path, index), self._here())
                self._value((*path, index))
                index += 1
                self._blank()
                self._take(",")
        else:
            found = _STRING.match(self.text, self.at) or _SCALAR.match(self.text, self.at)
            assert found
            self.at = found.end()

    def _note(self, path: Key, line: int) -> None:
        self.lines.setdefault(path, line)

    def _here(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def _blank(self) -> bool:
        """Skip white space and comments; is there more?"""
        found = _BLANK.match(self.text, self.at)
        assert found
        self.at = found.end()
        return self.at < len(self.text)

    def _take(self, sign: str) -> bool:
        if not self.text.startswith(sign, self.at):
            return False
        self.at += len(sign)
        return True

    def _expect(self, sign: str) -> None:
        self._blank()
        taken = self._take(sign)
        assert taken
