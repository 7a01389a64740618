"""Every route with every role, and every route with whatever a generator makes of its description."""

from __future__ import annotations

import random
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from dlqueue.protocol.caller import ROLES, Role
from dlqueue.protocol.errors import Code
from dlqueue.protocol.methods import METHODS
from dlqueue.protocol.routes import API, ROUTES, Route
from dlqueue.transports import openapi
from tests.transports.gateway_world import World

EXAMPLES = 12
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


# ------------------------------------------------------------------------------------------------------------ the table


def path_of(route: Route) -> str:
    path = API + route.path.replace(":path", "")
    for name in route.in_path:
        path = path.replace(f"{{{name}}}", "7" if name == "id" else "nobody")
    return path


def test_every_route_leads_to_a_method_and_takes_what_it_has() -> None:
    for route in ROUTES:
        declared = METHODS[route.method].params.__dataclass_fields__
        assert {*route.in_path, *(route.takes or ())} <= set(declared), route
    assert len({(route.verb, route.path) for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("role", [None, *ROLES])
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.verb} {route.path}")
def test_a_route_asks_for_the_role_of_its_method(http: World, route: Route, role: Role | None) -> None:
    answer = http.ask(route.verb, path_of(route), role, data=b'{"nope": 1}' if route.has_body else None)
    if role is None:
        assert answer.status == 401
    elif ROLES.index(role) < ROLES.index(METHODS[route.method].role):
        assert (answer.status, answer.kind) == (403, "role")
    else:
        assert answer.status != 401
        assert answer.status != 403


@pytest.mark.parametrize("role", [None, *ROLES])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_rpc_asks_for_the_role_of_the_method(http: World, name: str, role: Role | None) -> None:
    answer = http.rpc(name, role, nope=1)
    if role is None:
        assert (answer.status, answer.kind) == (401, "unauthenticated")
    elif ROLES.index(role) < ROLES.index(METHODS[name].role):
        assert (answer.status, answer.body["error"]["code"]) == (403, Code.FORBIDDEN)
    else:
        assert (answer.status, answer.body["error"]["code"] in (Code.INVALID_PARAMS, Code.NO_METHOD)) == (200, True)


# --------------------------------------------------------------------------------------------------------- the document


DOCUMENT = openapi.document()
for _endless in ("/events", "/api/v1/events"):
    del DOCUMENT["paths"][_endless]["get"]["responses"]["200"]  # a stream that is right does not end
schema = schemathesis.openapi.from_dict(DOCUMENT)


@schema.exclude(path=["/events", "/api/v1/events"]).parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_what_is_generated_is_answered_as_documented(http: World, case: Any) -> None:
    response = case.call(
        base_url=str(http.gateway.address), headers={"Authorization": f"Bearer {http.tokens['admin']}"}
    )
    case.validate_response(response, checks=CHECKS)


def test_the_document_is_served(http: World) -> None:
    served = http.ask("GET", "/openapi.json", "read").body
    assert served["openapi"] == "3.1.0"
    assert served["paths"].keys() == openapi.document()["paths"].keys()
    assert {(route.template, route.verb.lower()) for route in ROUTES} <= {
        (path, verb) for path, verbs in served["paths"].items() for verb in verbs
    }
    identities = [one["operationId"] for verbs in served["paths"].values() for one in verbs.values()]
    assert len(set(identities)) == len(identities)


# ---------------------------------------------------------------------------------------------------------------- noise


def test_noise_is_never_a_defect_of_ours(http: World) -> None:
    """Bytes that resemble requests: from a fixed seed, so that what is found stays found."""
    chance = random.Random(6)
    pieces: list[bytes] = [
        b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b"true", b"1e999", b"-0", b"NaN", b"9" * 40, b"\x00",
        b"\xff", b'"\\ud800"', b'"id"', b'"method"', b'"jsonrpc":"2.0"', b'"params"', b'"tasks.list"',
        b'"downloads.add"', b'"url"', b'"http://host.invalid/x"', b'"__class__"', b" " * 50, b"\\u0000",
        b'{"a":{"a":{"a":',
    ]  # fmt: skip
    paths = ["/rpc", *(path_of(route) for route in ROUTES if route.has_body)]
    heads = [{}, {"Content-Encoding": "gzip"}, {"Expect": "100-continue"}, {"X-" + "a" * 300: "b" * 5000}]
    queries = ["id", "limit=%ff", "=", "x=1", "%00=%00", "a&b;c", "id=1&id=1"]
    for _ in range(600):
        path = chance.choice(paths)
        data = b"".join(chance.choice(pieces) for _ in range(chance.randrange(12)))
        query = "&".join(chance.choice(queries) for _ in range(chance.randrange(3)))
        answer = http.ask("POST", f"{path}?{query}", data=data, headers=chance.choice(heads))
        assert answer.status < 500, (path, data, answer)
        told = answer.body if answer.data else {}
        for one in told if isinstance(told, list) else [told]:
            assert one.get("error", {}).get("code", one.get("code")) != Code.INTERNAL, (path, data, one)
