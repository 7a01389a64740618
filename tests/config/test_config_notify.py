"""`[notify]` and `[hooks.NAME]`: what is understood, and what is said of what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlqueue.config import Config, ConfigError, difference, load

RIGHT = """
[notify]
webhook_secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
allow_private = true
[notify.targets.phone]
url = "ntfys://tokentoken@host/topic"
[[notify.rules]]
match = { tag = "films", size = ">1GiB" }
all = true
on = "delivered"
to = "phone"
[[notify.rules]]
webhook = "https://host/x"
hook = "unpack"
[hooks.unpack]
command = ["/bin/true", "a b"]
timeout = "10m"
[hooks.named]
command = ["true"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dlqueue.toml"


def read(file: Path, text: str) -> Config:
    file.write_text(text)
    file.chmod(0o600)
    return load(file, mode="user", kinds={}, environ={"HOME": str(file.parent), "XDG_STATE_HOME": str(file.parent)})


def problems(file: Path, text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as raised:
        read(file, text)
    return {problem.key: problem.message for problem in raised.value.problems}


def test_all_of_it(file: Path) -> None:
    config = read(file, RIGHT)
    first, second = config.notify.rules
    assert (first.match.tag, first.match.size, first.all) == (("films",), (">1GiB",), True)
    assert (first.on, first.to, second.webhook, second.hook) == (
        ("delivered",), ("phone",), "https://host/x", "unpack",
    )  # fmt: skip
    assert (config.hooks["unpack"].command, config.hooks["unpack"].timeout) == (("/bin/true", "a b"), 600.0)
    assert config.hooks["named"].timeout == 60.0
    shown = str(config.as_shown())
    assert "whsec_" not in shown and "tokentoken" not in shown
    assert config.secret_values() == {config.notify.webhook_secret, "ntfys://tokentoken@host/topic"}


def test_a_new_secret_is_a_difference_that_does_not_show_it(file: Path) -> None:
    (one,) = difference(read(file, RIGHT), read(file, RIGHT.replace("MDEy", "NDEy")))
    assert (one.key, one.before, one.after) == ("notify.webhook_secret", "***", "***")


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ('[notify]\nwebhook_secret = "abc"', "notify.webhook_secret", "whsec_"),
        ('[notify]\nwebhook_secret = "whsec_"', "notify.webhook_secret", "whsec_"),
        ("[notify]\nallow_privat = true", "notify.allow_privat", '"allow_private"'),
        ("[notify.targets]\nphone = 1", "notify.targets.phone", "must be a table"),
        ('[notify.targets.phone]\nurl = "phone"', "notify.targets.phone.url", "apprise"),
        ("[notify.targets.phone]", "notify.targets.phone.url", "is required"),
        ('[notify.targets."a/b"]\nurl = "json://h"', 'notify.targets."a/b"', "a name is"),
        ("[notify]\nrules = 1", "notify.rules", "list of tables"),
        ("[[notify.rules]]", "notify.rules[0]", "tells nobody"),
        ('[[notify.rules]]\nto = ["phon"]\n[notify.targets.phone]\nurl="json://h"', "notify.rules[0].to", '"phone"'),
        ('[[notify.rules]]\nhook = "x"', "notify.rules[0].hook", 'unknown hook "x"'),
        ('[[notify.rules]]\nwebhook = "ftp://h"', "notify.rules[0].webhook", "https://"),
        ('[[notify.rules]]\nwebhook = "https://h"\non = "done"', "notify.rules[0].on", "delivered"),
        ("[hooks]\nx = 1", "hooks.x", "must be a table"),
        ("[hooks.x]", "hooks.x.command", "is required"),
        ('[hooks.x]\ncommand = "rm -rf"', "hooks.x.command", "must be a list"),
        ("[hooks.x]\ncommand = []", "hooks.x.command", "at least 1"),
        ('[hooks.x]\ncommand = ["./x"]', "hooks.x.command", "absolute path"),
        ('[hooks.x]\ncommand = ["true"]\nshell = true', "hooks.x.shell", "unknown key"),
        ('[hooks.x]\ncommand = ["true"]\ntimeout = 0', "hooks.x.timeout", "at least 0.1"),
        ('[hooks.x]\ncommand = ["true"]\n[notify.targets.x]\nurl = "json://h"', "hooks.x", "name of a target too"),
    ],
)
def test_mistakes(file: Path, text: str, key: str, words: str) -> None:
    found = problems(file, text)
    (said,) = [message for at, message in found.items() if at.startswith(key)]
    assert words in said


def test_what_is_likely_a_mistake(file: Path) -> None:
    text = '[[notify.rules]]\nwebhook = "https://h"\n[hooks.x]\ncommand = ["/nowhere/x"]'
    said = {warning.key: warning.message for warning in read(file, text).warnings}
    assert "/nowhere/x is no program" in said["hooks.x.command"]
    assert "webhook_secret is not set" in said["notify"]


@pytest.mark.parametrize("allowed", [False, True])
def test_a_rule_whose_webhook_is_never_sent(file: Path, allowed: bool) -> None:
    text = f"[notify]\nallow_private = {str(allowed).lower()}\n" + "".join(
        f'[[notify.rules]]\nwebhook = "{url}"\n' for url in ("https://h.example/x", "http://127.0.0.1:8123/x")
    )
    said = {warning.key: warning.message for warning in read(file, text).warnings}
    assert ("notify.rules[1].webhook" in said) is not allowed
    assert "notify.rules[0].webhook" not in said
    assert allowed or "notify.allow_private is false" in said["notify.rules[1].webhook"]
