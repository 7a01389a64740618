"""`[http]`: what is an address, and what is warned of."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlqueue.address import Address, parse_address
from dlqueue.config import Config, ConfigError, load
from tests.config.test_config_load import KINDS


def loaded(folder: Path, text: str) -> Config:
    file = folder / "dlqueue.toml"
    file.write_text(text)
    return load(file, mode="user", kinds=KINDS, environ={"HOME": str(folder)})


@pytest.mark.parametrize(
    ("text", "address", "shown", "local"),
    [
        ("127.0.0.1:8787", Address("127.0.0.1", 8787), "http://127.0.0.1:8787", True),
        ("127.8.8.8:1", Address("127.8.8.8", 1), "http://127.8.8.8:1", True),
        ("[::1]:80", Address("::1", 80), "http://[::1]:80", True),
        ("[0::1]:0", Address("::1", 0), "http://[::1]:0", True),
        ("LocalHost:8787", Address("localhost", 8787), "http://localhost:8787", True),
        ("unix:/run/x.sock", Address(path=Path("/run/x.sock")), "unix:/run/x.sock", True),
        ("0.0.0.0:8787", Address("0.0.0.0", 8787), "http://0.0.0.0:8787", False),
        ("[::]:8787", Address("::", 8787), "http://[::]:8787", False),
        ("192.168.1.2:8787", Address("192.168.1.2", 8787), "http://192.168.1.2:8787", False),
        ("nas.lan:8787", Address("nas.lan", 8787), "http://nas.lan:8787", False),
    ],
)
def test_addresses(tmp_path: Path, text: str, address: Address, shown: str, local: bool) -> None:
    assert parse_address(text) == address
    assert (str(address), address.is_local) == (shown, local)
    config = loaded(tmp_path, f'[http]\nlisten = "{text}"\n')
    assert config.http.listen == text
    assert [problem.key for problem in config.warnings] == ([] if local else ["http.listen"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8787",
        ":8787",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:99999",
        "1.2.3:80",
        "256.0.0.1:80",
        "::1:80",
        "[::g]:80",
        "http://127.0.0.1:80",
        "unix:run/x",
        "unix:",
        "unix:/a/../b",
        "a b:80",
        "127.0.0.1:80 ",
        "[1.2.3.4:80",
    ],
)
def test_what_is_no_address(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f'[http]\nlisten = "{text}"\n')
    (problem,) = caught.value.problems
    assert (problem.line, problem.key) == (2, "http.listen")


def test_names(tmp_path: Path) -> None:
    config = loaded(tmp_path, '[http]\nhosts = ["nas.lan", "[::2]:8080"]\norigins = ["https://dl.example.org"]\n')
    assert (config.http.listen, config.http.hosts) == (None, ("nas.lan", "[::2]:8080"))
    assert config.http.origins == ("https://dl.example.org",)
    assert config.as_shown()["http"]["hosts"] == ["nas.lan", "[::2]:8080"]
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, '[http]\nhosts = ["http://nas", "*", ""]\norigins = ["nas.lan", "https://a/b", "*"]\n')
    found = [str(problem.key) for problem in caught.value.problems]
    assert found == [*(f"http.hosts[{n}]" for n in range(3)), *(f"http.origins[{n}]" for n in range(3))]
