"""One client's connection: requests in, answers and events out, with a bound on everything it can hold."""

from __future__ import annotations

import asyncio
import logging
import select
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from dlqueue.protocol import envelope, jsonrpc, methods
from dlqueue.protocol.caller import Caller
from dlqueue.protocol.errors import LimitExceeded, NotFound, RpcError, Stopping
from dlqueue.protocol.framing import MAX_LINE, LineSplitter
from dlqueue.transports.backlog import Backlog
from dlqueue.transports.dispatch import Dispatcher, EventStream

_log = logging.getLogger(__name__)

CHUNK = 256 * 1024
MAX_IN_FLIGHT = 4096
MAX_IN_FLIGHT_BYTES = 8 * 1024 * 1024
MAX_BATCH_ANSWER = 4 * 1024 * 1024
MAX_SUBSCRIPTIONS = 64
HIGH_WATER = 64 * 1024
STALL_SECONDS = 10.0
"""A client that takes nothing for so long, while answers wait for it, is dropped."""
HANG_UP_CHECK = 1.0
LINGER_BYTES = 64 * 1024 * 1024
LINGER_SECONDS = 5.0
_TURN = 64
"""Requests answered in one go before other connections get their turn."""


class Connection:
    """Reads are answered in turn; writes and waits run beside each other and are answered as they end."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        caller: Caller,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        stall: float = STALL_SECONDS,
        backlog: Backlog | None = None,
    ) -> None:
        """:param backlog: of all connections of a server."""
        self._dispatcher = dispatcher
        self._caller = caller
        self._reader = reader
        self._writer = writer
        self._transport = writer.transport
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._stall = stall
        self._backlog = backlog or Backlog()
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._out_size = 0
        self._turn = asyncio.Lock()
        self._writable = asyncio.Event()
        self._writable.set()
        self._watch: asyncio.Task[None] | None = None
        self._tasks: dict[asyncio.Task[None], bool] = {}  # → may be cancelled when the client leaves
        self._load = 0
        self._less = asyncio.Event()
        self._streams: dict[str, EventStream] = {}
        self._pumps: set[asyncio.Task[None]] = set()
        self._main: asyncio.Task[None] | None = None
        self._leaving = False
        self._last_word: RpcError = Stopping("the daemon is stopping", retry_after=5)

    # ------------------------------------------------------------------------------------------------------- reading

    async def run(self) -> None:
        """Serve until the client has left and got its answers. Does not raise, except when cancelled."""
        self._main = asyncio.current_task()
        try:
            if await self._read():
                await self._answer_half_closed()
            else:
                await self._linger()
        except (ConnectionError, TimeoutError):
            pass  # gone, or dropped because it does not read
        finally:
            await self._leave()

    async def _read(self) -> bool:
        """Until the end of input (true) or a line over the limit (false)."""
        splitter = LineSplitter()
        turn = 0
        while chunk := await self._reader.read(CHUNK):
            lines, too_long = splitter.feed(chunk)
            for line in lines:
                turn += 1
                if turn % _TURN == 0:
                    await asyncio.sleep(0)
                await self._line(line)
            if too_long:
                limit = LimitExceeded(f"a message has at most {MAX_LINE} bytes", kind="message_size")
                self._send(envelope.refusal(None, limit))
                return False
        if rest := splitter.rest():
            await self._line(rest)
        return True

    async def _line(self, line: bytes) -> None:
        if not self._writable.is_set() or len(self._tasks) >= MAX_IN_FLIGHT or self._load >= MAX_IN_FLIGHT_BYTES:
            await self._room()
        message = jsonrpc.parse(line)
        if isinstance(message, jsonrpc.Batch):
            self._beside(self._batch(message), len(line), cancellable=False)
        elif isinstance(message, jsonrpc.Refused):
            self._send(envelope.refusal(message.id, message.error))
        elif self._runs_beside(message):
            self._beside(self._answer_later(message), len(line), cancellable=self._waits(message))
        else:
            started: list[Callable[[], None]] = []
            answer = await self._answer(message, started)
            if answer:
                self._send(answer)
            for start in started:
                start()

    async def _room(self) -> None:
        """Not reading is the back-pressure: wait until the client takes its answers and some requests are done."""
        await self._writable.wait()
        while len(self._tasks) >= MAX_IN_FLIGHT or self._load >= MAX_IN_FLIGHT_BYTES:
            self._less.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(HANG_UP_CHECK):
                    await self._less.wait()
            if self._hung_up():
                raise ConnectionResetError
        if self._transport.is_closing():
            raise ConnectionResetError

    # -------------------------------------------------------------------------------------------------------- ending

    def _hung_up(self) -> bool:
        """Whether the client is gone altogether, and has not only ended its side of the conversation."""
        descriptor = self._transport.get_extra_info("socket").fileno()
        if self._transport.is_closing() or descriptor < 0:
            return True
        poll = select.poll()
        poll.register(descriptor, 0)  # a hang-up is always reported
        return bool(poll.poll(0))

    async def _answer_half_closed(self) -> None:
        """The client sends nothing more but may still read: `echo … | socat`, `nc -N`."""
        while self._tasks or self._pumps:
            if self._hung_up():
                return
            running = {*self._tasks, *self._pumps}
            await asyncio.wait(running, timeout=HANG_UP_CHECK, return_when=asyncio.FIRST_COMPLETED)

    async def _linger(self) -> None:
        """After a line over the limit: end our side, then take and drop what is still on its way, within bounds. To
        close at once would destroy the answer before the client has read it."""
        self._last_word = LimitExceeded("the connection ends after a message over the limit", kind="message_size")
        self.interrupt()
        async with asyncio.timeout(LINGER_SECONDS):
            if self._tasks:
                await asyncio.wait(set(self._tasks))
            self._flush()
            self._transport.write_eof()
            dropped = 0
            while dropped < LINGER_BYTES and (chunk := await self._reader.read(CHUNK)):
                dropped += len(chunk)

    def interrupt(self) -> None:
        """End what would go on for as long as the client likes: waits and subscriptions."""
        for task, cancellable in list(self._tasks.items()):
            if cancellable:
                task.cancel()
        for stream in list(self._streams.values()):
            stream.close()

    async def end(self) -> None:
        """Instead of `run`: only a word why there is nothing to be had."""
        self._send(envelope.refusal(None, self._last_word))
        await self._leave()

    async def finish(self, grace: float) -> None:
        """Answer what is in flight within ``grace`` seconds, refuse the rest, and close."""
        self.interrupt()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=grace)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=1)
        if self._main is not None and not self._main.done():
            if not self._leaving:
                self._main.cancel()
            await asyncio.wait({self._main}, timeout=self._stall)
        self._transport.abort()

    async def _leave(self) -> None:
        self._leaving = True
        self.interrupt()
        for pump in list(self._pumps):
            pump.cancel()
        if writes := {task for task, cancellable in self._tasks.items() if not cancellable}:
            await asyncio.wait(writes)  # what was asked for is done, though nobody hears the answer
        self._flush()
        self._writer.close()
        try:
            async with asyncio.timeout(self._stall):
                await self._writer.wait_closed()
        except (TimeoutError, OSError):
            self._transport.abort()

    # ----------------------------------------------------------------------------------------------------- answering

    def _waits(self, call: jsonrpc.Call) -> bool:
        return envelope.waits(call.method, call.params)

    def _runs_beside(self, call: jsonrpc.Call) -> bool:
        row = methods.METHODS.get(call.method)
        return row is not None and (row.waits or row.access == "write")

    def _beside(self, work: Coroutine[Any, Any, None], size: int, *, cancellable: bool) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks[task] = cancellable
        self._load += size

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.pop(task, None)
            self._load -= size
            self._less.set()

        task.add_done_callback(done)
        return task

    async def _answer_later(self, call: jsonrpc.Call) -> None:
        try:
            result = await self._dispatcher.result(self._caller, call)
        except asyncio.CancelledError:
            # Only this connection cancels these tasks: when its client has left, or when the daemon stops.
            answer = envelope.refusal(call.id, self._last_word)
        except RpcError as error:
            answer = envelope.refusal(call.id, error)
        else:
            # Many may be ready at one moment. Each becomes bytes only when the client has taken those before it.
            async with self._turn:
                await self._writable.wait()
                answer = self._dispatcher.encoded(call, result)
                if not call.notification:
                    self._send(answer)
            return
        if not call.notification:
            self._send(answer)

    async def _interruptible(self, call: jsonrpc.Call) -> bytes | None:
        try:
            answer = await self._dispatcher.answer(self._caller, call)
        except asyncio.CancelledError:
            # Only this connection cancels these tasks: when its client has left, or when the daemon stops.
            answer = envelope.refusal(call.id, self._last_word)
        return None if call.notification else answer

    async def _answer(self, call: jsonrpc.Call, started: list[Callable[[], None]]) -> bytes | None:
        if call.method == envelope.SUBSCRIBE:
            answer = await self._subscribe(call, started)
        elif call.method == envelope.UNSUBSCRIBE:
            answer = self._unsubscribe(call)
        else:
            answer = await self._dispatcher.answer(self._caller, call)
        return None if call.notification else answer

    async def _batch(self, batch: jsonrpc.Batch) -> None:
        answers: list[bytes | None] = [None] * len(batch.items)
        started: list[Callable[[], None]] = []
        beside: list[asyncio.Task[None]] = []
        size, alone = 0, False

        def too_long(call: jsonrpc.Call) -> bytes | None:
            message = f"the answers of a batch have at most {MAX_BATCH_ANSWER} bytes"
            limit = LimitExceeded(message, kind="batch_size")
            return None if call.notification else envelope.refusal(call.id, limit)

        async def put(index: int, call: jsonrpc.Call) -> None:
            nonlocal size
            answer = await self._interruptible(call)
            answers[index] = too_long(call) if size > MAX_BATCH_ANSWER else answer
            size += len(answers[index] or b"")

        try:
            for index, item in enumerate(batch.items):
                if isinstance(item, jsonrpc.Refused):
                    answers[index] = envelope.refusal(item.id, item.error)
                elif self._runs_beside(item):
                    beside.append(self._beside(put(index, item), 0, cancellable=self._waits(item)))
                elif size > MAX_BATCH_ANSWER:
                    answers[index] = too_long(item)
                else:
                    # A list is expected to be long: many first answers, each long, would lie about.
                    if not alone and (size > HIGH_WATER or item.method.endswith(".list")):
                        alone = await self._backlog.turn.acquire()
                    answer = answers[index] = await self._answer(item, started)
                    size += len(answer or b"")
                    if alone and size <= HIGH_WATER:
                        self._backlog.turn.release()
                        alone = False
        finally:
            if alone:
                self._backlog.turn.release()
        if beside:
            await asyncio.wait(beside)
        if told := [answer.rstrip(b"\n") for answer in answers if answer]:
            self._send(b"[" + b",".join(told) + b"]\n")
        for start in started:
            start()

    # -------------------------------------------------------------------------------------------------------- events

    async def _subscribe(self, call: jsonrpc.Call, started: list[Callable[[], None]]) -> bytes:
        if len(self._streams) >= MAX_SUBSCRIPTIONS:
            limit = LimitExceeded(f"a connection has at most {MAX_SUBSCRIPTIONS} subscriptions", kind="subscriptions")
            return envelope.refusal(call.id, limit)
        try:
            stream: EventStream = await self._dispatcher.result(self._caller, call)
        except RpcError as error:
            return envelope.refusal(call.id, error)
        if call.notification:
            stream.close()  # nobody would know its name
            return b""
        self._streams[stream.id] = stream
        started.append(lambda: self._start(stream))
        return envelope.answer(call.id, {"subscription": stream.id})

    def _start(self, stream: EventStream) -> None:
        task = self._loop.create_task(self._pump(stream))
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)

    async def _pump(self, stream: EventStream) -> None:
        try:
            async for event in stream:
                self._send(envelope.notice("event", event))
                if not self._writable.is_set():
                    await self._writable.wait()
        except ConnectionError:
            pass
        except Exception:  # noqa: BLE001 - the stream ends, the connection goes on
            _log.exception("defect in an event stream")
        finally:
            self._streams.pop(stream.id, None)
            stream.close()

    def _unsubscribe(self, call: jsonrpc.Call) -> bytes:
        try:
            name = self._dispatcher.params(call).subscription
            stream = self._streams.pop(name, None)
            if stream is None:
                raise NotFound("this connection has no such subscription", field="subscription")
        except RpcError as error:
            return envelope.refusal(call.id, error)
        stream.close()
        return envelope.answer(call.id, {"subscription": name})

    # ------------------------------------------------------------------------------------------------------- writing

    def _send(self, line: bytes) -> None:
        """Answers of one turn of the loop leave in one write, unless they are many."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(line)
        self._out_size += len(line)
        if self._out_size > HIGH_WATER:
            self._flush()  # now, so that a client that does not take it is noticed before more is made for it

    def _flush(self) -> None:
        if not self._out:
            return
        data = b"".join(self._out)
        self._out.clear()
        self._out_size = 0
        if self._transport.is_closing():
            return
        self._transport.write(data)
        if self._watch is None and self._transport.get_write_buffer_size() > HIGH_WATER:
            self._writable.clear()
            self._backlog.add(self)
            self._watch = self._loop.create_task(self._until_taken())

    async def _until_taken(self) -> None:
        """Wait until the client has taken what waits for it; drop it when it takes nothing for the stall time."""
        try:
            while (size := self.untaken) > HIGH_WATER:
                try:
                    async with asyncio.timeout(self._stall):
                        await self._writer.drain()
                except TimeoutError:
                    if self.untaken >= size:
                        self.drop()
                        return
        except ConnectionError:
            pass
        finally:
            self._watch = None
            self._backlog.remove(self)
            self._writable.set()

    @property
    def untaken(self) -> int:
        """See `Slow`."""
        return self._transport.get_write_buffer_size()

    def drop(self) -> None:
        """See `Slow`."""
        _log.info("dropped a client of %s that does not read its answers", self._caller.name)
        self._transport.abort()
