"""The gateway as its clients see it: who may come in, what is answered, and that nothing bad gets further."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dlqueue.protocol.errors import Code
from dlqueue.transports.problem import STATUS
from tests.transports.gateway_world import USER, World, world

FILE = {"url": "http://host.invalid/file.bin"}


def added(http: World, name: str, **more: Any) -> int:
    answer = http.api("POST", "/downloads", json_body={"url": f"http://host.invalid/{name}", "paused": True, **more})
    assert answer.status == 201, answer
    number: int = answer.body["id"]
    return number


# ------------------------------------------------------------------------------------------------------ who may come in


@pytest.mark.parametrize("path", ["/", "/index.html", "/healthz", "/readyz"])
def test_what_needs_no_token(http: World, path: str) -> None:
    assert http.ask("GET", path, None).status == 200


@pytest.mark.parametrize("path", ["/api/v1/tasks", "/events", "/metrics", "/openapi.json", "/nothing", "/.."])
def test_all_else_needs_one(http: World, path: str) -> None:
    answer = http.ask("GET", path, None)
    assert (answer.status, answer.kind) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer ", "Basic YTpi", "bearer dlq_wrong", "Bearer ü", "Bearer " + "x" * 9000]
)
def test_what_is_no_token_of_ours(tmp_path: Path, given: str) -> None:
    with world(tmp_path) as http:
        answer = http.ask("GET", "/api/v1/tasks", None, headers={"Authorization": given.encode().decode("latin-1")})
        assert answer.status == 401
        assert http.ask("GET", f"/api/v1/tasks?token={http.tokens['admin']}", None).status == 401


def test_two_tokens_are_none(http: World) -> None:
    connection = http.connection()
    connection.putrequest("GET", "/api/v1/tasks")
    for role in ("admin", "read"):
        connection.putheader("Authorization", f"Bearer {http.tokens[role]}")
    connection.endheaders()
    assert connection.getresponse().status == 401
    connection.close()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1", "localhost:1", "", "localhost.", "a b"]
)
@pytest.mark.parametrize("path", ["/", "/healthz", "/api/v1/tasks", "/nothing"])
def test_a_foreign_host_is_refused_before_anything_else(http: World, path: str, host: str) -> None:
    answer = http.ask("POST", path, data=b"{broken", headers={"Host": host})
    assert (answer.status, answer.kind) == (403, "host")


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://localhost", "file://", "http://localhost:1"]
)
def test_a_foreign_origin_is_refused(http: World, origin: str) -> None:
    answer = http.ask("GET", "/healthz", headers={"Origin": origin})
    assert (answer.status, answer.kind) == (403, "origin")


def test_its_own_names_are_known(http: World) -> None:
    port = http.gateway.address.port
    for host in (f"127.0.0.1:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
        assert http.ask("GET", "/healthz", headers={"Host": host, "Origin": f"http://{host}"}).status == 200


def test_names_of_the_configuration_are_known(tmp_path: Path) -> None:
    with world(tmp_path, hosts=("nas.lan", "dl.example:99"), origins=("https://app.example/",)) as http:
        for host, status in (("nas.lan", 200), ("NAS.lan:1234", 200), ("dl.example:99", 200), ("dl.example", 403)):
            assert http.ask("GET", "/healthz", headers={"Host": host}).status == status
        assert http.ask("GET", "/healthz", headers={"Origin": "https://app.example"}).status == 200
        assert http.ask("GET", "/healthz", headers={"Origin": "https://nas.lan"}).status == 200
        assert http.ask("GET", "/healthz", headers={"Origin": "http://app.example"}).status == 403


def test_what_a_request_says_of_itself_changes_nothing(http: World) -> None:
    forged = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "x", "X-Real-IP": "::1", "X-Remote-User": "root"}
    assert http.ask("GET", "/api/v1/tasks", None, headers=forged).status == 401
    number = added(http, "mine")
    theirs = http.run(http.token("stranger", "admin", USER))
    answer = http.api("GET", f"/tasks/{number}", theirs, headers=forged)
    assert (answer.status, answer.body["code"]) == (404, Code.NOT_FOUND)
    assert http.api("GET", "/tasks", theirs).body["items"] == []
    assert http.api("GET", "/tasks?owner=ada", theirs).status == 403
    assert http.rpc("daemon.config", theirs).body["error"]["code"] == Code.FORBIDDEN


def test_who_guesses_has_to_wait_and_nobody_else(tmp_path: Path) -> None:
    with world(tmp_path) as http:
        statuses = [
            http.ask("GET", "/metrics", f"dlq_{n}", headers={"X-Forwarded-For": f"9.9.9.{n}"}) for n in range(12)
        ]
        assert [answer.status for answer in statuses] == [401] * 10 + [429] * 2
        assert statuses[-1].kind == "logins"
        assert 1 <= int(statuses[-1].headers["retry-after"]) <= 60
        assert http.api("GET", "/tasks").status == 200  # the right token is let in from the same address
        assert http.ask("GET", "/metrics", None).status == 401


def test_every_answer_is_hardened(http: World) -> None:
    for answer in (http.ask("GET", "/"), http.ask("GET", "/nothing"), http.ask("GET", "/", headers={"Host": "x"})):
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
    assert http.api("GET", "/tasks").headers["cache-control"] == "no-store"


def test_a_revoked_token_is_worth_nothing_at_once(http: World) -> None:
    token = http.rpc("tokens.create", name="short", role="read").body["result"]["token"]
    assert http.api("GET", "/tasks", token).status == 200
    stream = http.events("?topics=schedule", token)  # other tests have left tasks here
    assert http.rpc("tokens.revoke", name="short").body["result"]["name"] == "short"
    assert http.api("GET", "/tasks", token).status == 401
    assert stream.next() is None
    stream.close()


# ------------------------------------------------------------------------------------------------------------------ rpc


def test_rpc_takes_the_envelopes_of_the_socket(http: World) -> None:
    answer = http.rpc("daemon.info")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.body["id"] == 1
    assert answer.body["result"]["version"]

    batch = [
        {"jsonrpc": "2.0", "id": "a", "method": "tasks.count"},
        {"jsonrpc": "2.0", "method": "tasks.count"},
        {"jsonrpc": "2.0", "id": 3, "method": "tasks.get", "params": {"id": 10**9}},
        7,
    ]
    told = http.ask("POST", "/rpc", json_body=batch).body
    assert [one["id"] for one in told] == ["a", 3, None]
    assert [one.get("error", {}).get("code") for one in told] == [None, Code.NOT_FOUND, Code.INVALID_REQUEST]


@pytest.mark.parametrize(
    "message", [{"jsonrpc": "2.0", "method": "daemon.info"}, [{"jsonrpc": "2.0", "method": "no.such"}]]
)
def test_notifications_are_not_answered(http: World, message: Any) -> None:
    answer = http.ask("POST", "/rpc", json_body=message)
    assert (answer.status, answer.data) == (204, b"")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"", Code.PARSE),
        (b"{", Code.PARSE),
        (b"\xff\xfe", Code.PARSE),
        (b'{"jsonrpc":"2.0","id":1,"method":"daemon.info","params":{"a":NaN}}', Code.PARSE),
        (b'{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"daemon.info"}', Code.PARSE),
        (b"[" * 100_000, Code.PARSE),
        (b"[]", Code.INVALID_REQUEST),
        (b"[" + b",".join([b"1"] * 1001) + b"]", Code.LIMIT),
        (b'{"jsonrpc":"2.0","id":1,"method":"tasks.get","params":{"id":%d}}' % 10**30, Code.INVALID_PARAMS),
        (b'{"jsonrpc":"2.0","id":1,"method":"tasks.get","params":[1]}', Code.INVALID_PARAMS),
        (b'{"jsonrpc":"2.0","id":1,"method":"__class__"}', Code.NO_METHOD),
        (b'{"jsonrpc":"2.0","id":1,"method":"events.subscribe"}', Code.NO_METHOD),
    ],
)
def test_bad_envelopes_are_answered_with_envelopes(http: World, sent: bytes, code: int) -> None:
    answer = http.ask("POST", "/rpc", data=sent)
    assert (answer.status, answer.body["error"]["code"]) == (200, code)


def test_a_role_that_is_too_small(http: World) -> None:
    answer = http.rpc("daemon.shutdown", "operate")
    assert (answer.status, answer.body["error"]["code"]) == (403, Code.FORBIDDEN)
    assert answer.body["error"]["data"]["kind"] == "role"
    assert "admin" in answer.body["error"]["message"]
    batch = [{"jsonrpc": "2.0", "id": n, "method": m} for n, m in enumerate(("daemon.shutdown", "daemon.info"))]
    told = http.ask("POST", "/rpc", "operate", json_body=batch)
    assert (told.status, told.body[0]["error"]["code"]) == (200, Code.FORBIDDEN)
    assert "result" in told.body[1]
    assert http.house.stops == 0


# ----------------------------------------------------------------------------------------------------------------- REST


def test_a_new_task_is_201_and_a_joined_one_200(http: World) -> None:
    first = http.api("POST", "/downloads", "submit", json_body={"url": "http://host.invalid/one", "paused": True})
    assert first.status == 201
    assert first.headers["location"] == f"/api/v1/tasks/{first.body['id']}"
    again = http.api("POST", "/downloads", "submit", json_body={"url": "http://host.invalid/one", "paused": True})
    assert (again.status, again.body["id"], again.body["created"]) == (200, first.body["id"], False)
    dry = http.api("POST", "/downloads", json_body={"url": "http://host.invalid/two", "dry_run": True})
    assert (dry.status, dry.body["dry_run"]) == (200, True)

    submit = {"type": "remote_download", "params": {"url": "http://host.invalid/x"}, "unique_key": "k", "paused": True}
    assert http.api("POST", "/tasks", json_body=submit).status == 201
    assert http.api("POST", "/tasks", json_body=submit).status == 200
    other = submit | {"params": {"url": "http://host.invalid/y"}}
    assert http.api("POST", "/tasks", json_body=other).status == 409


def test_the_life_of_a_task(http: World) -> None:
    number = added(http, "life", correlation_id="a/b ü", labels={"tag": ["x y"]})
    assert http.api("GET", f"/tasks/{number}").body["status"] == "paused"
    assert http.api("GET", "/tasks/by-correlation/a/b%20%C3%BC").body["id"] == number
    assert http.api("GET", "/tasks?status=paused&status=error&label=tag%3Dx%20y&limit=1&count=true").body["total"] == 1
    assert http.api("GET", "/tasks?retryable=true&label=tag").body["items"] == []
    assert http.api("GET", "/tasks/stats").body["total"] >= 0
    for part in ("progress", "result", "history", "why"):
        assert http.api("GET", f"/tasks/{number}/{part}").status == 200
    assert http.api("GET", f"/tasks/{number}/why").body["reason"] == "paused"
    assert http.api("GET", f"/downloads/{number}/files").body == {"items": []}
    assert http.api("POST", f"/tasks/{number}/resume").body["status"] in ("queued", "processing", "suspending")
    assert http.api("POST", f"/tasks/{number}/cancel?delete_data=true").body["status"] == "canceled"
    assert http.api("POST", f"/tasks/{number}/pause").status == 409
    assert http.api("POST", f"/tasks/{number}/retry", data=b"").body["status"] in ("queued", "processing", "suspending")
    assert http.api("POST", f"/tasks/{number}/cancel", json_body={"delete_data": True}).status == 200
    assert http.api("DELETE", f"/tasks/{number}?delete_data=true").body["id"] == number
    gone = http.api("GET", f"/tasks/{number}")
    assert (gone.status, gone.kind, gone.body["task_id"]) == (404, "not_found", number)


def test_queues_schedules_and_downloaders(http: World) -> None:
    made = http.api("POST", "/queues", json_body={"name": "slow", "concurrency": 2})
    assert (made.status, made.headers["location"]) == (201, "/api/v1/queues/slow")
    assert http.api("POST", "/queues", json_body={"name": "slow"}).status == 409
    assert http.api("PUT", "/queues/slow", json_body={"rate": "1/s"}).body["rate"] == "1/s"
    assert http.api("POST", "/queues/slow/pause").body["paused"] is True
    assert http.api("POST", "/queues/slow/resume").body["paused"] is False
    assert http.api("GET", "/queues/slow/stats").body["size"] == 0
    assert "slow" in [queue["name"] for queue in http.api("GET", "/queues").body["items"]]

    schedule = {"name": "nightly", "type": "remote_download", "params": FILE, "cron": "0 3 * * *"}
    assert http.api("POST", "/schedules", json_body=schedule).status == 201
    assert http.api("PUT", "/schedules/nightly", json_body={"every": 90}).body["every"] == 90
    for verb in ("pause", "resume", "run"):
        assert http.api("POST", f"/schedules/nightly/{verb}").status == 200
    assert http.api("DELETE", "/schedules/nightly").status == 200
    assert http.api("GET", "/schedules/nightly").kind == "schedule"

    assert http.api("GET", "/downloaders").body["items"][0]["name"] == "box"
    assert http.api("POST", "/downloaders/nobody/test").status == 404


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/tasks/abc", "id"),
        ("/tasks/0", "id"),
        ("/tasks/99999999999999999999", "id"),
        ("/tasks?limit=many", "limit"),
        ("/tasks?limit=0", "limit"),
        ("/tasks?limit=1&limit=2", "limit"),
        ("/tasks?limit=9223372036854775808", "limit"),
        ("/tasks?count=yes", "count"),
        ("/tasks?status=nope", "status"),
        ("/tasks?statsu=error", "statsu"),
        ("/tasks?text=%00", "text"),
        ("/tasks?since=yesterday", "since"),
        ("/tasks/1?limit=1", "limit"),
        ("/tasks/1?correlation_id=x", "correlation_id"),
        ("/tasks/1/progress?id=2", "id"),
    ],
)
def test_a_wrong_param_is_named(http: World, path: str, field: str) -> None:
    answer = http.api("GET", path)
    assert answer.status == 400
    assert answer.kind in ("invalid_params", "unknown_param")
    assert answer.body["field"] == field
    assert answer.body["detail"].startswith(field)


def test_a_query_that_is_no_text(http: World) -> None:
    assert http.api("GET", "/tasks?text=%ff").kind == "parse"
    assert http.api("GET", "/tasks?" + "&".join(f"a{n}=1" for n in range(2000))).kind == "parse"


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"{", "parse"),
        (b"\xff", "parse"),
        (b'{"url": NaN}', "parse"),
        (b'{"url": "a", "url": "b"}', "parse"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "parse"),
        (b'{"url": "\\ud800"}', "parse"),
        (b"[1]", "invalid_params"),
        (b"null", "invalid_params"),
        (b'{"url": "http://host.invalid/x", "priority": 1%s}' % (b"0" * 30), "invalid_params"),
        (b'{"url": "http://host.invalid/\\u0000"}', "invalid_params"),
        (b'{"urll": "http://host.invalid/"}', "unknown_param"),
        (b'{"url": "http://host.invalid/", "priority": "high"}', "invalid_params"),
        (b'{"url": "file:///etc/passwd"}', "scheme"),
    ],
)
def test_a_bad_body_is_a_problem_document(http: World, sent: bytes, kind: str) -> None:
    answer = http.api("POST", "/downloads", data=sent)
    assert answer.kind == kind
    assert answer.status == (422 if kind == "scheme" else 400)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "?"]
)
def test_a_body_that_is_not_said_to_be_json(http: World, kind: str) -> None:
    for path in ("/rpc", "/api/v1/downloads"):
        answer = http.ask("POST", path, json_body=FILE, headers={"Content-Type": kind})
        assert (answer.status, answer.kind) == (415, "content_type")
    assert (
        http.ask("POST", "/rpc", data=b"{}", headers={"Content-Type": "application/json; charset=utf-8"}).status == 200
    )


@pytest.mark.parametrize("verb", ["HEAD", "OPTIONS", "TRACE", "PATCH", "CONNECT", "get", "BREW"])
@pytest.mark.parametrize("path", ["/rpc", "/events", "/api/v1/tasks", "/api/v1/tasks/1"])
def test_a_verb_that_is_not_known(http: World, verb: str, path: str) -> None:
    answer = http.ask(verb, path)
    assert answer.status == 405
    assert set(answer.headers["allow"].split(", ")) <= {"GET", "POST", "PUT", "DELETE"}
    assert verb == "HEAD" or answer.kind == "verb"


@pytest.mark.parametrize("verb", ["GET", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "path", ["/api/v1", "/api/v1/", "/api/v2/tasks", "/tasks", "/api/v1/tasks/1/x", "/rpc/", "//", "/%2e%2e/x"]
)
def test_a_path_that_is_not_known(http: World, verb: str, path: str) -> None:
    answer = http.ask(verb, path)
    assert (answer.status, answer.kind) == (404, "path")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_by_its_head_alone(http: World, path: str) -> None:
    answer = http.ask("HEAD", path, None)
    assert (answer.status, answer.data) == (200, b"")
    refused = http.ask("POST", path, None)
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")


def test_the_page_and_nothing_beside_it(http: World) -> None:
    page = http.ask("GET", "/", None)
    assert page.headers["content-type"].startswith("text/html")
    assert http.ask("HEAD", "/", None).data == b""
    again = http.ask("GET", "/", None, headers={"If-None-Match": page.headers["etag"]})
    assert again.status == 304
    for path in ("/../http.py", "/%2e%2e/http.py", "/..%2fhttp.py", "/index.html/..", "/index.html%00"):
        assert http.ask("GET", path).status == 404


def test_metrics_when_there_are_some(tmp_path: Path) -> None:
    class Figures:
        async def render(self) -> bytes:
            return b"dlqueue_up 1\n"

    with world(tmp_path, metrics=Figures()) as http:
        answer = http.ask("GET", "/metrics", "read")
        assert (answer.status, answer.data) == (200, b"dlqueue_up 1\n")
        assert answer.headers["content-type"].startswith("text/plain")
        assert http.ask("GET", "/metrics", None).status == 401


def test_not_ready_when_the_store_does_not_answer(tmp_path: Path) -> None:
    with world(tmp_path) as http:

        async def broken() -> None:
            raise OSError("no disk")

        http.gateway._ready = broken
        assert (http.ask("GET", "/readyz", None).status, http.ask("GET", "/healthz", None).status) == (503, 200)


def test_every_code_has_a_status() -> None:
    assert set(STATUS) == set(Code)
    assert all(400 <= status < 600 for status in STATUS.values())


def test_a_defect_is_told_without_details(http: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(http.gateway._calls.dispatcher, "_rows", dict(http.gateway._calls.dispatcher._rows))
    rows: Any = http.gateway._calls.dispatcher._rows
    row, read, _ = rows["queues.list"]
    rows["queues.list"] = (row, read, broken)
    answer = http.api("GET", "/queues")
    assert (answer.status, answer.kind) == (500, "internal")
    assert "secret" not in json.dumps(answer.body)


def test_a_name_may_come_back_in_the_body(http: World) -> None:
    assert http.api("POST", "/queues", json_body={"name": "q"}).status == 201
    assert http.api("PUT", "/queues/q", json_body={"name": "q", "concurrency": 3}).body["concurrency"] == 3
    other = http.api("PUT", "/queues/q", json_body={"name": "p", "concurrency": 4})
    assert (other.status, other.body["field"]) == (400, "name")
