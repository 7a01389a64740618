"""Every failure is told with its own kind, and says for whom it is final. No secret is in a message."""

from __future__ import annotations

import contextlib
import email.utils
import errno
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dlqueue.sdk import Rejected, Request
from tests.plugins.http.conftest import KEY, Bench
from tests.serving import nobody
from tests.webserver import WebServer, pattern


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 410, 418, 451])
def test_a_refusal_is_final_for_the_request(bench: Bench, server: WebServer, status: int) -> None:
    error = bench.error(server.put("f", status=status))
    assert (error.kind, error.final) == (f"http_{status}", "request")
    assert str(status) in error.message


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_trouble_of_the_server_is_passing(bench: Bench, server: WebServer, status: int) -> None:
    error = bench.error(server.put("f", status=status))
    assert (error.kind, error.final, error.retry_after) == (f"http_{status}", None, None)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_passed_on(bench: Bench, server: WebServer, status: int) -> None:
    error = bench.error(server.put("f", status=status, headers={"Retry-After": "30"}))
    assert error.retry_after == 30.0
    assert "30 s" in error.message


def test_retry_after_may_be_a_date(bench: Bench, server: WebServer) -> None:
    date = email.utils.formatdate(time.time() + 90, usegmt=True)
    error = bench.error(server.put("f", status=429, headers={"Retry-After": date}))
    assert error.retry_after is not None
    assert 60 < error.retry_after <= 91


@pytest.mark.parametrize("value", ["soon", "-1", "9" * 400, "Thu, 99 Foo 2020 00:00:00 GMT"])
def test_retry_after_may_be_nonsense(bench: Bench, server: WebServer, value: str) -> None:
    assert bench.error(server.put("f", status=503, headers={"Retry-After": value})).retry_after is None


def test_a_name_that_nobody_knows(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = bench.error("http://nowhere.invalid/f")
    assert (error.kind, error.final) == ("dns", None)
    assert "nowhere.invalid" in error.message


def test_a_refused_connection(bench: Bench) -> None:
    with nobody() as address:
        error = bench.error(f"http://{address}/f")
    assert (error.kind, error.final) == ("connection", None)
    assert "refused" in error.message


def raw_server(answer: bytes) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(ConnectionError):  # who has had enough hangs up
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/f"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", "connection"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "bad_answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", "bad_answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "bad_answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\nhello", "bad_answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "truncated"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhel", "truncated"),
        (b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n\r\nx", "bad_answer"),
        (b"HTTP/1.1 302 Found\r\nLocation: ftp://elsewhere/f\r\n\r\n", "bad_redirect"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://[::1/f\r\n\r\n", "bad_redirect"),
        (b"HTTP/1.1 302 Found\r\n\r\n", "http_302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\nx", "bad_answer"),
    ],
)
def test_a_server_that_speaks_badly(bench: Bench, answer: bytes, kind: str) -> None:
    servers = raw_server(answer)
    assert bench.error(next(servers)).kind == kind
    assert next(servers, None) is None


def test_a_truncated_body(bench: Bench, server: WebServer) -> None:
    error = bench.error(server.put("f", pattern(100_000), cut=50_000))
    assert (error.kind, error.final) == ("truncated", None)


def test_silence(bench: Bench, server: WebServer) -> None:
    error = bench.error(server.put("f", hang=True), config={"read_timeout": 0.2})
    assert (error.kind, error.final) == ("timeout", None)


def test_silence_in_the_middle(bench: Bench, server: WebServer) -> None:
    gate = threading.Event()
    url = server.put("f", pattern(100_000), gate=gate, gate_at=1000)
    error = bench.error(url, config={"read_timeout": 0.2})
    assert (error.kind, error.final) == ("timeout", None)


@pytest.fixture
def tls_files(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl to make a certificate")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=test"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_a_certificate_must_be_one_that_is_trusted(bench: Bench, tls_files: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tls_files / "cert.pem", tls_files / "key.pem")
    with WebServer(tls) as server:
        content = pattern(300_000)
        url = server.put("f", content)
        error = bench.error(url)
        assert (error.kind, error.final) == ("tls", "downloader")
        assert server.requests == []
        bench.reopen(ca_file=str(tls_files / "cert.pem"))
        assert bench.content(bench.fetch(url)) == content
        other = f"https://localhost:{server.port}/f"
        assert bench.engine is not None
        bench.close()
        shutil.rmtree(bench.control)
        error = bench.error(other, config={"ca_file": str(tls_files / "cert.pem")})
        assert (error.kind, error.final) == ("tls", "downloader")
        bench.reopen(verify=False)
        assert bench.content(bench.fetch(url)) == content


def test_a_full_disk(bench: Bench, server: WebServer, tmp_path: Path) -> None:
    target = tmp_path / "transfer"
    target.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(target)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        error = bench.error(server.put("f", pattern(1_000_000)))
        assert (error.kind, error.final) == ("disk_full", None)
        bench.close()
    finally:
        subprocess.run(["umount", str(target)], check=True)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_passing(bench: Bench, server: WebServer, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def full(*args: object) -> int:
        raise OSError(code, os.strerror(code))

    bench.open()
    monkeypatch.setattr("dlqueue_http.fetch.os.pwrite", full)
    error = bench.error(server.put("f", pattern(1000)), server.put("mirror", pattern(1000)))
    assert (error.kind, error.final) == ("disk_full", None)
    assert server.asked("mirror") == []


def test_a_full_disk_refuses_a_new_transfer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    engine = bench.open()
    monkeypatch.setattr("dlqueue_http.control.os.write", full)
    with pytest.raises(Rejected) as caught:
        engine.create(bench.request("http://127.0.0.1:9/f"), KEY)
    assert caught.value.kind == "disk_full"


def test_a_folder_that_cannot_be_made(bench: Bench, server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "transfer").write_text("in the way")
    error = bench.error(server.put("f", b"x"))
    assert (error.kind, error.final) == ("file", None)


def test_a_link_in_place_of_the_file_is_not_followed(bench: Bench, server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep")
    (tmp_path / "transfer").mkdir()
    (tmp_path / "transfer" / "f").symlink_to(tmp_path / "precious")
    assert bench.content(bench.fetch(server.put("f", b"x"))) == b"x"
    assert (tmp_path / "precious").read_text() == "keep"
    assert not (tmp_path / "transfer" / "f").is_symlink()


REFUSED: list[tuple[dict[str, Any], str, str | None]] = [
    ({"urls": ()}, "unsupported", "downloader"),
    ({"urls": (), "torrent": b"d4:infode"}, "unsupported", "downloader"),
    ({"metalink": b"<metalink/>"}, "unsupported", "downloader"),
    ({"urls": ("ftp://127.0.0.1/f",)}, "unsupported", "downloader"),
    ({"urls": ("http://127.0.0.1/a\r\nX: y",)}, "bad_url", "request"),
    ({"urls": ("http://127.0.0.1/a b",)}, "bad_url", "request"),
    ({"urls": ("http://",)}, "bad_url", "request"),
    ({"urls": ("http://127.0.0.1:99999/",)}, "bad_url", "request"),
    ({"headers": {"X-A": "b\r\nX-C: d"}}, "bad_header", "request"),
    ({"headers": {"X-A\r\nX-C": "d"}}, "bad_header", "request"),
    ({"headers": {"X A": "d"}}, "bad_header", "request"),
    ({"headers": {"X-A": "\x00"}}, "bad_header", "request"),
    ({"headers": {"X-A": "\u20ac"}}, "bad_header", "request"),
    ({"headers": {"Range": "bytes=0-1"}}, "bad_header", "request"),
    ({"headers": {"transfer-encoding": "chunked"}}, "bad_header", "request"),
    ({"options": {"out": "../x"}}, "bad_option", "request"),
    ({"options": {"connections": "0"}}, "bad_option", "request"),
    ({"options": {"connections": "many"}}, "bad_option", "request"),
    ({"options": {"user-agent": "a\nb"}}, "bad_option", "request"),
    ({"name": "../x"}, "bad_name", "request"),
    ({"name": "x" * 256}, "bad_name", "request"),
    ({"select": (2,)}, "bad_select", "request"),
]


@pytest.mark.parametrize(("what", "kind", "final"), REFUSED, ids=[str(number) for number in range(len(REFUSED))])
def test_refuses_at_once(bench: Bench, what: dict[str, Any], kind: str, final: str | None) -> None:
    engine = bench.open()
    usual: dict[str, Any] = {"urls": ("http://127.0.0.1:9/f",), "directory": bench.folder / "transfer"}
    request = Request(**(usual | what))
    with pytest.raises(Rejected) as caught:
        engine.create(request, KEY)
    assert (caught.value.kind, caught.value.final) == (kind, final)
    assert "\r" not in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("key", ["", "../../etc/x", "a/b", "a\n", "x" * 100])
def test_refuses_a_key_that_is_no_file_name(bench: Bench, key: str) -> None:
    with pytest.raises(Rejected):
        bench.open().create(bench.request("http://127.0.0.1:9/f"), key)


def test_no_secret_is_in_a_message(bench: Bench, server: WebServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    secret = "hunter2"
    base = f"http://user:{secret}@127.0.0.1:{server.port}"
    server.put("status", status=500)
    server.put("cut", pattern(1000), cut=10)
    server.put("hop", redirect=f"ftp://user:{secret}@127.0.0.1/{secret}")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    urls = [f"{base}/{name}?token={secret}" for name in ("status", "cut", "hop", secret)]
    urls.append(f"http://user:{secret}@127.0.0.1:{closed}/?token={secret}")
    engine = bench.open(read_timeout=1.0)
    for url in urls:
        error = bench.error(url, headers={"X-Key": secret})
        assert secret not in error.message, error
        engine.remove(engine.create(bench.request(url), KEY), delete_data=True)
    assert secret not in caplog.text


def test_config_names_the_key_that_is_wrong() -> None:
    from dlqueue_http import HttpConfig

    wrong: list[tuple[str, Callable[[], object]]] = [
        ("connections", lambda: HttpConfig(connections=0)),
        ("min_segment", lambda: HttpConfig(min_segment=1)),
        ("split_after", lambda: HttpConfig(split_after=-1)),
        ("read_timeout", lambda: HttpConfig(read_timeout=0)),
        ("read_timeout", lambda: HttpConfig(read_timeout=1e308)),
        ("connect_timeout", lambda: HttpConfig(connect_timeout=86_401)),
        ("user_agent", lambda: HttpConfig(user_agent="a\nb")),
    ]
    for key, make in wrong:
        with pytest.raises(ValueError, match=key):
            make()
