from __future__ import annotations

from pathlib import Path

import pytest

from dlqueue.places import places, socket_candidates

HOME = {"HOME": "/home/ann"}


def test_the_systems_places_are_fixed() -> None:
    here = places("system", {**HOME, "XDG_CONFIG_HOME": "/elsewhere"})
    assert here.config_file == Path("/etc/dlqueue/dlqueue.toml")
    assert here.conf_d == Path("/etc/dlqueue/conf.d")
    assert here.socket == Path("/run/dlqueue/dlqueue.sock")
    assert here.state == Path("/var/lib/dlqueue")
    assert here.database_url == "sqlite:////var/lib/dlqueue/dlqueue.db"
    assert here.downloads == Path("/var/lib/dlqueue/downloads")
    assert here.staging == "root"


def test_the_users_places_without_any_variable() -> None:
    here = places("user", HOME)
    assert here.config_file == Path("/home/ann/.config/dlqueue/dlqueue.toml")
    assert here.state == Path("/home/ann/.local/state/dlqueue")
    assert here.socket == Path("/home/ann/.local/state/dlqueue/dlqueue.sock")
    assert here.database_url == "sqlite:////home/ann/.local/state/dlqueue/dlqueue.db"
    assert here.downloads is None
    assert here.staging == "beside"


def test_the_users_places_follow_xdg() -> None:
    xdg = {"XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/run/user/7"}
    here = places("user", {**HOME, **xdg})
    assert here.config_file == Path("/c/dlqueue/dlqueue.toml")
    assert here.conf_d == Path("/c/dlqueue/conf.d")
    assert here.state == Path("/s/dlqueue")
    assert here.socket == Path("/run/user/7/dlqueue/dlqueue.sock")


@pytest.mark.parametrize("value", ["", "relative/state", "./x"])
def test_xdg_values_that_are_not_absolute_are_ignored(value: str) -> None:
    xdg = dict.fromkeys(("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"), value)
    assert places("user", {**HOME, **xdg}) == places("user", HOME)


def test_the_environment_names_config_and_socket() -> None:
    here = places("system", {**HOME, "DLQUEUE_CONFIG": "/t/my.toml", "DLQUEUE_SOCKET": "/t/s.sock"})
    assert (here.config_file, here.conf_d, here.socket) == (Path("/t/my.toml"), Path("/t/conf.d"), Path("/t/s.sock"))


def test_a_relative_name_is_taken_from_the_current_directory() -> None:
    assert places("user", {**HOME, "DLQUEUE_SOCKET": "s.sock"}).socket == Path.cwd() / "s.sock"


def test_without_home_the_user_database_is_asked() -> None:
    assert places("user", {}).state.is_absolute()


def test_socket_candidates_in_order() -> None:
    named = {**HOME, "DLQUEUE_SOCKET": "/env.sock"}
    assert socket_candidates("/flag.sock", named) == [Path("/flag.sock")]
    assert socket_candidates(None, named) == [Path("/env.sock")]
    assert socket_candidates(None, {**HOME, "XDG_RUNTIME_DIR": "/run/user/7"}) == [
        Path("/run/user/7/dlqueue/dlqueue.sock"),
        Path("/run/dlqueue/dlqueue.sock"),
    ]
