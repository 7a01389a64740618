"""Requests that no client of ours would send, by the thousand, from one seed."""

from __future__ import annotations

import json
import random
import typing
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from dlqueue.protocol.methods import METHODS

SPARED = frozenset({"daemon.shutdown", "daemon.reload"})
"""A user who may do that would end the test."""
ODD_NUMBERS = (0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**300, 0.5, -0.0, 1e308, 5e-324)
ODD_TEXTS = (
    "",
    "\x00",
    "a\x00b",
    "\r\n",
    "../../etc/passwd",
    "__class__",
    "%s%n",
    "'; DROP TABLE task; --",
    "\u202e\u2066",
    "\U0010ffff",
    "é" * 300,
    "x" * 70_000,
    "*",
    "http://host.invalid/a",
    "magnet:?xt=urn:btih:" + "0" * 40,
    "file:///etc/passwd",
    "http://[::1",
    "http://user:pw@host.invalid:99999/",
    "2024-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "@every 1s",
    "* * * * *",
    "remote_download",
    "downloads",
)
SURROGATE = "\\ud800"
"""As JSON writes it: Python would not."""


class Fuzzer:
    """:param seed: the same requests for the same seed."""

    def __init__(self, seed: int) -> None:
        self._luck = random.Random(seed)
        self._methods = sorted(METHODS.keys() - SPARED)

    def lines(self, count: int) -> Iterator[bytes]:
        """So many messages, each a line without its end."""
        for number in range(count):
            yield self._line(number)

    def _line(self, number: int) -> bytes:
        luck = self._luck.random()
        if luck < 0.05:
            return self._garbage()
        if luck < 0.10:
            some = [self._request(f"{number}.{n}") for n in range(self._luck.choice([0, 1, 2, 5, 20]))]
            return self._written(some)
        return self._written(self._request(number))

    def _written(self, message: Any) -> bytes:
        text = json.dumps(message)
        luck = self._luck.random()
        if luck < 0.03:
            text = text.replace('"a', f'"{SURROGATE}a', 1)
        elif luck < 0.06:
            text = text.replace(": 0", ": " + self._luck.choice(["NaN", "Infinity", "-Infinity", "1e999", "01"]), 1)
        elif luck < 0.08:
            text = text.replace('"params"', '"params": {}, "params"', 1)
        elif luck < 0.10:
            text = text[: self._luck.randrange(len(text))]
        return text.encode("utf-8", "surrogatepass").replace(b"\n", b" ")

    def _garbage(self) -> bytes:
        what = self._luck.randrange(6)
        if what == 0:
            return bytes(self._luck.choice(range(11, 256)) for _ in range(self._luck.randrange(200)))
        if what == 1:
            depth = self._luck.choice([10, 100, 1000, 100_000])
            return b"[" * depth + b"]" * depth
        if what == 2:
            depth = self._luck.choice([31, 33, 5000])
            deep = b'{"a":' * depth + b"1" + b"}" * depth
            return b'{"jsonrpc":"2.0","id":1,"method":"tasks.submit","params":{"type":"x","params":' + deep + b"}}"
        if what == 3:
            return self._luck.choice([b"null", b"1", b'"x"', b"true", b"[]", b"{}", b"[1,2]", b"[[]]", b"\xff\xfe{}"])
        if what == 4:
            return b'{"jsonrpc":"2.0","id":' + b"9" * self._luck.choice([20, 400, 5000]) + b',"method":"daemon.info"}'
        return b" " * self._luck.randrange(1, 100)

    def _request(self, number: object) -> Any:
        luck = self._luck
        method: Any = luck.choice(self._methods)
        params = self._params(method)
        if luck.random() < 0.05:
            method = luck.choice(
                [method.upper(), "tasks.__init__", "a.b.c", "", 7, None, "tasks._record", method + " "]
            )
        request: dict[str, Any] = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        if luck.random() < 0.05:
            request[luck.choice(["jsonrpc", "id", "params", "method", "more"])] = self._anything()
        if luck.random() < 0.03:
            del request[luck.choice(sorted(request))]
        return request

    def _params(self, method: str) -> Any:
        luck = self._luck
        if luck.random() < 0.03:
            return self._anything()
        known = fields(METHODS[method].params)
        hints = typing.get_type_hints(METHODS[method].params)
        params: dict[str, Any] = {}
        for field in known:
            if luck.random() < 0.2 or (field.name in ("id", "name", "type", "url", "params") and luck.random() < 0.8):
                fits = luck.random() < 0.9
                params[field.name] = self._fitting(field.name, hints[field.name]) if fits else self._anything()
        if "timeout" in params or method == "tasks.wait":
            params["timeout"] = luck.choice([0, 0, 0, -1, "x", 2**64])  # who waits for long is none of this
        if params.get("on_full") == "wait":
            params["on_full"] = "refuse"
        if luck.random() < 0.05:
            params[luck.choice(ODD_TEXTS)] = self._anything()
        return params

    def _fitting(self, name: str, hint: Any) -> Any:
        luck = self._luck
        said = str(hint)
        if name == "type":
            return luck.choice(["remote_download", "remote_download", *ODD_TEXTS])
        if name in ("url", "directory", "name", "unique_key") and luck.random() < 0.5:
            return luck.choice(["http://host.invalid/a?manual=1", "http://host.invalid/b", "downloads", "fake", "n"])
        if name == "params" and luck.random() < 0.6:
            return {"url": luck.choice(["http://host.invalid/a", *ODD_TEXTS])}
        if name in ("id", "parent_id"):
            return luck.choice([1, 2, 3, 50, *ODD_NUMBERS])
        if name == "tasks":
            return [self._params("tasks.submit") for _ in range(luck.randrange(4))]
        if name in ("params", "headers", "options", "labels", "estimate", "seed"):
            keys = ("url", "urls", "directory", "name", "memory", "ratio", *ODD_TEXTS)
            return {luck.choice(keys): self._anything() for _ in range(luck.randrange(4))}
        if "list" in said and luck.random() < 0.7:
            if luck.random() < 0.05:
                return [luck.randrange(2000) for _ in range(1100)]
            return [luck.choice([*ODD_TEXTS, *ODD_NUMBERS]) for _ in range(luck.choice([0, 1, 3]))]
        if "bool" in said:
            return luck.random() < 0.5
        if "int" in said or "float" in said:
            return luck.choice(ODD_NUMBERS)
        if "Literal" in said and luck.random() < 0.7:
            words = [word for word in said.replace('"', "'").split("'")[1::2] if word]
            return luck.choice(words or ["x"])
        return luck.choice(ODD_TEXTS)

    def _anything(self, depth: int = 0) -> Any:
        luck = self._luck
        kind = luck.randrange(8 if depth < 3 else 5)
        if kind == 0:
            return luck.choice(ODD_NUMBERS)
        if kind in (1, 2):
            return luck.choice(ODD_TEXTS)
        if kind == 3:
            return luck.choice([None, True, False])
        if kind == 4:
            return luck.randrange(100)
        if kind == 5:
            return [self._anything(depth + 1) for _ in range(luck.randrange(5))]
        return {luck.choice(ODD_TEXTS): self._anything(depth + 1) for _ in range(luck.randrange(4))}
