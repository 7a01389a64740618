"""The dashboard as a person has it before them, and all that must not happen meanwhile."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, expect

from tests.daemon.instance import Instance

PATIENCE = 30_000
"""Milliseconds that something may take to show."""
FAKE = "http://host.invalid"
expect.set_options(timeout=PATIENCE)
_NUMBERS = itertools.count()
"""For names of tokens: the `id` of an object may have been that of another one."""
_REMEMBER = """new MutationObserver(() => {
    for (const one of document.querySelectorAll(".toasts p")) (window.toasted ??= new Set()).add(one.textContent);
}).observe(document, { childList: true, subtree: true });"""


class Dashboard:
    """``wrong`` gathers console errors, violations of the content security policy and requests to other hosts."""

    def __init__(self, instance: Instance, browser: Browser) -> None:
        self.instance = instance
        self.browser = browser
        self.wrong: list[str] = []
        self.requests: list[str] = []
        self._contexts: list[BrowserContext] = []
        self._roles: dict[str, dict[str, Any]] = {}

    def token(self, role: str = "admin") -> dict[str, Any]:
        """``token`` and ``url``; one for each role."""
        if role not in self._roles:
            made: dict[str, Any] = self.instance.call("tokens.create", name=f"{role}-{next(_NUMBERS)}", role=role)
            self._roles[role] = made
        return self._roles[role]

    def blank(self, **how: Any) -> Page:
        """A page that is nowhere yet."""
        context = self.browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **how})
        self._contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.add_init_script(_REMEMBER)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.wrong.append(f"thrown: {error}"))
        page.on("request", self._asked)
        return page

    def open(self, role: str = "admin", **how: Any) -> Page:
        """Signed in, with the list there."""
        page, made = self.blank(**how), self.token(role)
        page.goto(f"{made['url']}/#token={made['token']}")
        expect(page.locator(".list")).to_be_visible()
        expect(page.locator(".loading")).to_have_count(0)
        expect(page.locator(".live.on")).to_have_count(1)
        return page

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"{message.type}: {message.text}")

    def _asked(self, request: Request) -> None:
        self.requests.append(request.url)
        ours = urlsplit(self.token()["url"]).netloc
        if urlsplit(request.url).netloc != ours:
            self.wrong.append(f"asked {request.url}")

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        assert self.wrong == []


def row(page: Page, name: str) -> Locator:
    """The row of the task with this name."""
    return page.locator(".task").filter(has=page.locator(".name", has_text=name))


def told(page: Page, text: str) -> None:
    """A toast says it, or has said it: it goes by itself after some seconds, and may be gone when it is looked for."""
    page.wait_for_function("text => [...(window.toasted ?? [])].some((one) => one.includes(text))", arg=text)
