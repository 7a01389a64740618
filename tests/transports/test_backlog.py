"""Memory for answers that nobody takes: bounded over all clients, at the cost of those who never read."""

from __future__ import annotations

from dlqueue.transports.backlog import PATIENCE, Backlog


class Client:
    """It leaves so many bytes lying."""

    def __init__(self, untaken: int) -> None:
        self.untaken = untaken
        self.dropped = False

    def drop(self) -> None:
        self.untaken, self.dropped = 0, True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_oldest_that_take_nothing_go_and_no_more_than_needed() -> None:
    clock = Clock()
    backlog = Backlog(1000, clock)
    clients = [Client(300) for _ in range(3)]
    for client in clients:
        backlog.add(client)
        clock.now += PATIENCE
    backlog.add(last := Client(300))
    assert [client.dropped for client in (*clients, last)] == [True, False, False, False]
    backlog.add(another := Client(50))
    assert not any(client.dropped for client in (*clients[1:], last, another)), "there was room"


def test_who_reads_slowly_stays() -> None:
    clock = Clock()
    backlog = Backlog(1000, clock)
    slow, deaf = Client(600), Client(300)
    backlog.add(slow)
    backlog.add(deaf)
    clock.now += PATIENCE
    slow.untaken = 599
    backlog.add(new := Client(400))
    assert (slow.dropped, deaf.dropped, new.dropped) == (False, True, False)
    clock.now += PATIENCE / 2
    backlog.add(Client(400))
    assert not slow.dropped, "it took something a moment ago"
    clock.now += PATIENCE
    new.untaken = 399
    backlog.add(Client(1))
    assert slow.dropped and not new.dropped


def test_nobody_goes_before_he_had_time() -> None:
    backlog = Backlog(1000, Clock())
    clients = [Client(300) for _ in range(10)]
    for client in clients:
        backlog.add(client)
    assert not any(client.dropped for client in clients)


def test_who_has_taken_everything_does_not_count() -> None:
    clock = Clock()
    backlog = Backlog(1000, clock)
    backlog.add(done := Client(900))
    backlog.remove(done)
    backlog.remove(done)
    clock.now += PATIENCE
    backlog.add(Client(900))
    assert not done.dropped
