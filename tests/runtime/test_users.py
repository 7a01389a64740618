"""Who has a uid now."""

from __future__ import annotations

import os
import pwd
from types import SimpleNamespace

import pytest

from dlqueue.runtime.users import is_user, user_name


def test_a_user_is_looked_up_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert user_name(os.getuid()) == pwd.getpwuid(os.getuid()).pw_name
    names = {4001: "alice"}
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name=names[uid]))
    assert (user_name(4001), user_name(4002)) == ("alice", "4002")
    assert is_user(4001, "alice")
    assert is_user(4002, "4002")
    names[4001] = "bob"
    assert user_name(4001) == "bob", "the account is gone, and its uid somebody else's"
    assert not is_user(4001, "alice")
    del names[4001]
    assert not is_user(4001, "alice")
