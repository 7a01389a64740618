"""What the socket accepts as a request, and the documented error for everything else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dlqueue.protocol import envelope
from dlqueue.protocol.errors import Code
from dlqueue.protocol.jsonrpc import MAX_DEPTH, MAX_VALUES, Batch, Call, Refused, parse


def call(text: bytes) -> Call:
    message = parse(text)
    assert isinstance(message, Call), message
    return message


def refused(text: bytes) -> Refused:
    message = parse(text)
    assert isinstance(message, Refused), message
    return message


def request(params: bytes, identity: bytes = b"7") -> bytes:
    return b'{"jsonrpc":"2.0","id":' + identity + b',"method":"tasks.get","params":' + params + b"}"


def test_request() -> None:
    assert call(request(b'{"id":1}')) == Call(7, "tasks.get", {"id": 1})
    assert call(request(b"{}", b'"a"')).id == "a"
    assert call(request(b"{}", b"null")) == Call(None, "tasks.get", {})
    assert call(b' {"jsonrpc":"2.0","id":1,"method":"daemon.info"}\r').params == {}


def test_notification() -> None:
    assert call(b'{"jsonrpc":"2.0","method":"daemon.info"}').notification
    assert call(b'{"jsonrpc":"2.0","method":"daemon.info","params":[]}').notification, "never answered, not even badly"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf{}",
        b'{"a":1}{"b":2}',
        request(b'{"id":NaN}'),
        request(b'{"id":Infinity}'),
        request(b'{"id":-Infinity}'),
        request(b'{"id":1e999}'),
        request(b'{"id":1,"id":2}'),
        b'{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"daemon.info"}',
        request(b'{"a":{"b":1,"b":1}}'),
        request(b'{"text":"\\ud800"}'),
        request(b'{"text":"\\uDFFF"}'),
        request(b'{"text":["\\udc00\\ud800"]}'),
        request(b'{"\\ud800":1}'),
        request(b'{"text":"\x01"}'),
        request(b'{"text":"\n"}'),
        request(b"{'id':1}"),
        request(b'{"id":01}'),
        b"[" * 33 + b"]" * 33,
        b"[" * 1_000_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'[{"a":' * 50_000,
    ],
    ids=lambda text: repr(text[:60]),
)
def test_parse_error(text: bytes) -> None:
    answer = refused(text)
    assert answer.error.code == Code.PARSE
    assert answer.id is None


def test_depth_is_counted_outside_strings() -> None:
    assert call(request(json.dumps({"text": "[{" * 1000}).encode())).params["text"] == "[{" * 1000
    assert call(request(json.dumps({"text": '"[\\"{' * 100}).encode())).params["text"] == '"[\\"{' * 100
    deepest = MAX_DEPTH - 2  # the request and its params are two levels
    assert isinstance(parse(request(b'{"a":' + b"[" * deepest + b"]" * deepest + b"}")), Call)
    assert refused(request(b'{"a":' + b"[" * (deepest + 1) + b"]" * (deepest + 1) + b"}")).error.code == Code.PARSE


def test_surrogate_pair_is_a_character() -> None:
    assert call(request(b'{"text":"\\ud83d\\ude00"}')).params["text"] == "\N{GRINNING FACE}"


@pytest.mark.parametrize(
    "params",
    [
        b'{"field":123456789012345678901234567890}',
        b'{"field":9223372036854775808}',
        b'{"field":-9223372036854775809}',
        b'{"field":[{"x":9223372036854775808}]}',
        b'{"field":' + b"9" * 5000 + b"}",
        b'{"field":"a\\u0000b"}',
        b'{"field":{"\\u0000":1}}',
    ],
    ids=lambda params: repr(params[:40]),
)
def test_unusable_values_name_their_field(params: bytes) -> None:
    answer = refused(request(params))
    assert (answer.id, answer.error.code, answer.error.field) == (7, Code.INVALID_PARAMS, "field")
    assert answer.error.message.startswith("field: ")


def test_largest_integers() -> None:
    params = call(request(b'{"a":9223372036854775807,"b":-9223372036854775808}')).params
    assert params == {"a": 2**63 - 1, "b": -(2**63)}


def test_named_params_only() -> None:
    for params in (b"[1]", b"[]", b"3", b'"x"', b"null"):
        answer = refused(request(params))
        assert (answer.id, answer.error.code) == (7, Code.INVALID_PARAMS)


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        (b"3", None),
        (b'"x"', None),
        (b"null", None),
        (b"{}", None),
        (b'{"id":1,"method":"daemon.info"}', 1),
        (b'{"jsonrpc":"1.0","id":1,"method":"daemon.info"}', 1),
        (b'{"jsonrpc":2.0,"id":1,"method":"daemon.info"}', 1),
        (b'{"jsonrpc":"2.0","id":1}', 1),
        (b'{"jsonrpc":"2.0","id":"a","method":1}', "a"),
        (b'{"jsonrpc":"2.0","method":1,"params":"bar"}', None),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"daemon.info"}', None),
        (b'{"jsonrpc":"2.0","id":true,"method":"daemon.info"}', None),
        (b'{"jsonrpc":"2.0","id":{},"method":"daemon.info"}', None),
        (b"[]", None),
    ],
)
def test_invalid_request(text: bytes, identity: object) -> None:
    answer = refused(text)
    assert (answer.error.code, answer.id) == (Code.INVALID_REQUEST, identity)


def test_id_beyond_64_bits() -> None:
    assert refused(request(b"{}", b"123456789012345678901234567890")).error.code == Code.INVALID_PARAMS


def test_batch() -> None:
    message = parse(b"[" + request(b'{"id":1}') + b",3,[]," + request(b"[]") + b"]")
    assert isinstance(message, Batch)
    first, second, third, fourth = message.items
    assert isinstance(first, Call)
    assert isinstance(second, Refused) and second.error.code == Code.INVALID_REQUEST
    assert isinstance(third, Refused) and third.error.code == Code.INVALID_REQUEST
    assert isinstance(fourth, Refused) and fourth.error.code == Code.INVALID_PARAMS


def test_batch_size() -> None:
    one = request(b"{}")
    assert isinstance(parse(b"[" + b",".join([one] * 1000) + b"]"), Batch)
    answer = refused(b"[" + b",".join([one] * 1001) + b"]")
    assert (answer.error.code, answer.id) == (Code.LIMIT, None)


def test_number_of_values_is_bounded() -> None:
    assert refused(b"[" + b"1," * (MAX_VALUES + 1) + b"1]").error.kind == "message_size"
    assert refused(b"[" + b"{}," * (MAX_VALUES // 2 + 1) + b"1]").error.kind == "message_size"
    many = call(request(json.dumps({"text": "," * (MAX_VALUES + 1)}).encode()))
    assert len(many.params["text"]) == MAX_VALUES + 1, "commas inside strings are not values"


def test_outgoing_lines() -> None:
    def back(line: bytes) -> Any:
        assert line.endswith(b"\n") and line.count(b"\n") == 1
        return json.loads(line)

    assert back(envelope.request(1, "a.b", {"x": "é\n"})) == {
        "jsonrpc": "2.0", "id": 1, "method": "a.b", "params": {"x": "é\n"},
    }  # fmt: skip
    assert back(envelope.answer(None, [1])) == {"jsonrpc": "2.0", "id": None, "result": [1]}
    assert back(envelope.answer(1, "\udcff")) == {"jsonrpc": "2.0", "id": 1, "result": "?"}
    assert "id" not in back(envelope.notice("event", {}))
    with pytest.raises(ValueError):
        envelope.request(1, "a.b", {"directory": "/\udcff"})
    with pytest.raises(ValueError):
        envelope.answer(1, float("nan"))
