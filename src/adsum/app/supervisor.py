"""Several workers on the same ports: started, kept alive, replaced one after another, and stopped.

Invariant: a worker that serves is only ever told to end when another has taken its
place, or when all are to end. The ports stay reserved from before the first worker
until the last has ended.
"""

import asyncio
import logging
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from adsum.adapters.http import Check, HttpServer
from adsum.adapters.merge import merge_pages
from adsum.adapters.metrics.meter import readiness_page
from adsum.adapters.reserve import Reservation
from adsum.app.process import Worker, WorkerGone
from adsum.app.run import STOP_SIGNALS, Ending, Listening, Reload, bound, delay_for
from adsum.app.settings import RELOADED, Settings, changed
from adsum.app.values import Address
from adsum.core.backoff import backoff_ms
from adsum.ports import PageFormat

log = logging.getLogger(__name__)

START_S = 60
"""Longest time for a worker to get ready; then it is ended."""

RESTART_MIN_MS = 100
RESTART_MAX_MS = 30_000
"""Waits before a worker is started again that died soon; they double."""

STEADY_S = 10
"""A worker that lived this long did not die at once: the waits begin anew."""

MAX_FAILED_STARTS = 5
"""In a row, while no worker serves at all: then the supervisor gives up."""

LOOK_S = 5
HUNG_S = 30
"""How often each worker is looked at, and after how long without an answer it is ended.

Twice the default lease: others have long removed its users from the store.
"""

STOP_GRACE_S = 20
"""Over delay and drain, the longest a worker may take to end; more than all waits of `Service.stop` together."""

FIXED = ("ws", "grpc", "http", "workers")
"""Settings of the supervisor's own: a roll does not change them."""


class GaveUp(Exception):
    """No worker can be had; the message is for the operator."""


class Supervisor:
    """Used once: `run`. `reload` reads the settings again; it returns None, having said why, if they are no good."""

    def __init__(self, settings: Settings, secret: str, reload: Reload) -> None:
        self._given = settings
        self._settings = settings
        self._secret = secret
        self._reload = reload
        self._places: dict[int, Worker] = {}
        """The worker in each place; it may have ended."""
        self._alive: set[Worker] = set()
        """All processes, also those on their way in or out."""
        self._turns = [asyncio.Lock() for _ in range(settings.workers)]
        """Who may put a worker in a place."""
        self._failed_starts = 0
        self._complete = asyncio.Event()
        """Every place has had its first worker."""
        self._ending = Ending()
        self._stop = self._ending.asked
        self._roll = asyncio.Event()
        self._failure = ""
        self._http = HttpServer(self._checks, self._metrics)

    async def run(self) -> None:
        """Serve until SIGINT or SIGTERM. Raises `GaveUp`, and `OSError` if a port can't be had."""
        with self._signals(), ExitStack() as ports:
            listening = await self._reserve(ports)
            self._settings = self._with_ports(self._settings, listening)
            try:
                await self._serve(listening)
            finally:
                await self._end(*self._alive, delay_ms=self._ending.delay_ms)
                await self._http.stop()
        if self._failure:
            raise GaveUp(self._failure)
        log.info("stopped")

    async def _reserve(self, ports: ExitStack) -> Listening:
        """Have all ports before any worker is started."""

        async def reserve(wanted: Address) -> int:
            reservation = Reservation(wanted.host, wanted.port)
            ports.callback(reservation.close)
            return reservation.port

        settings = self._settings
        ws = await bound("ws", settings.ws, reserve(settings.ws))
        grpc = await bound("grpc", settings.grpc, reserve(settings.grpc))
        http = await bound("http", settings.http, self._http.start(settings.http.host, settings.http.port))
        return Listening(ws, grpc, http)

    async def _serve(self, listening: Listening) -> None:
        """Start a worker in each place, and have one there until it is time to stop."""
        async with asyncio.TaskGroup() as group:
            keepers = [group.create_task(self._keep(number)) for number in range(self._settings.workers)]
            roller = group.create_task(self._roll_when_asked(listening))
            await self._stop.wait()
            for task in (*keepers, roller):
                task.cancel()

    def _give_up(self, reason: str) -> None:
        self._failure = self._failure or reason
        self._ending.ask(0)

    # A place and its worker

    async def _keep(self, number: int) -> None:
        """Have a worker in this place."""
        soon = 0
        while True:
            async with self._turns[number]:
                worker = self._places.get(number)
                if worker is None or worker.ended.done():
                    worker = await self._start(number, self._settings, self._secret)
            born_s = _now_s()
            if worker is not None:
                await self._until_ended(worker)
            soon = soon + 1 if _now_s() - born_s < STEADY_S else 0
            if soon:
                await asyncio.sleep(backoff_ms(soon, RESTART_MIN_MS, RESTART_MAX_MS, random.random()) / 1000)

    async def _start(self, number: int, settings: Settings, secret: str) -> Worker | None:
        """Put a new worker in a place once it is ready; None if it does not get so. The one there before stays."""
        try:
            worker = await Worker.start(number, settings, secret)
        except OSError as error:
            self._start_failed(f"worker {number} cannot be started: {error}")
            return None
        self._alive.add(worker)
        worker.ended.add_done_callback(lambda _ended: self._alive.discard(worker))
        try:
            await worker.until_ready(START_S)
        except WorkerGone:
            self._start_failed(f"worker {number} (process {worker.pid}) {worker.how_it_ended()} before it was ready")
            return None
        except TimeoutError:
            worker.kill()
            self._start_failed(f"worker {number} (process {worker.pid}) was not ready after {START_S} s")
            return None
        self._places[number] = worker
        self._failed_starts = 0
        if len(self._places) == self._settings.workers:
            self._complete.set()
        return worker

    def _start_failed(self, what: str) -> None:
        """At the start a reason to give up: what is wrong then is wrong with the settings, the ports or the store."""
        log.error("%s", what)
        self._failed_starts += 1
        if not self._complete.is_set():
            self._give_up(f"{what}: its own message is above")
        elif not self._serving() and self._failed_starts >= MAX_FAILED_STARTS:
            self._give_up(f"no worker is left, and {self._failed_starts} starts in a row have failed; the last: {what}")

    async def _until_ended(self, worker: Worker) -> None:
        """Return when it has ended; have it end if it hangs."""
        while not worker.ended.done():
            await asyncio.wait((worker.ended,), timeout=LOOK_S)
            if worker.ended.done() or worker.stopping:
                continue
            try:
                await worker.ask("checks", HUNG_S)
            except TimeoutError:
                log.warning("worker %d (process %d) does not answer: ending it", worker.number, worker.pid)
                worker.kill()
                await worker.ended
            except WorkerGone:
                await worker.ended
        if not worker.stopping:
            log.error("worker %d (process %d) %s: starting another", worker.number, worker.pid, worker.how_it_ended())

    def _serving(self) -> list[Worker]:
        """The workers that take connections."""
        return [worker for _, worker in sorted(self._places.items()) if not worker.ended.done()]

    # Rolling

    async def _roll_when_asked(self, listening: Listening) -> None:
        """Say when every place has its first worker; then roll as often as asked."""
        await self._complete.wait()
        log.info(
            "%d workers are ready: ws=%s grpc=%s http=%s",
            self._settings.workers,
            listening.ws,
            listening.grpc,
            listening.http,
        )
        while True:
            await self._roll.wait()
            self._roll.clear()
            found = self._reload()
            if found is not None:
                await self._take_over(self._with_fixed(found[0]), found[1])

    async def _take_over(self, settings: Settings, secret: str) -> None:
        """Tell the workers what they can take over as they are; for anything else they have to be replaced."""
        rolling = [name for name in changed(self._settings, settings) if name not in RELOADED]
        if rolling:
            log.info("%s: changed, which takes new workers", ", ".join(rolling))
            await self._roll_all(settings, secret)
            return
        self._settings, self._secret = settings, secret
        for worker in self._alive:
            worker.reload(settings, secret)
        log.info("the settings are read again")

    async def _roll_all(self, settings: Settings, secret: str) -> None:
        """One worker after another; the new settings are kept as soon as one worker gets ready with them."""
        log.info("rolling: one worker after another is replaced")
        for number, turn in enumerate(self._turns):
            async with turn:
                old = self._places[number]
                if await self._start(number, settings, secret) is None:
                    log.error("the roll ends here: the workers from %d on stay as they are", number)
                    return
                self._settings, self._secret = settings, secret
                # The others have its ports too.
                await self._end(old, delay_ms=0)
        log.info("rolled: all workers are new")

    async def _end(self, *workers: Worker, delay_ms: int) -> None:
        """Drain workers after a delay, and end those that take too long."""
        if not workers:
            return
        for worker in workers:
            worker.stop(delay_ms)
        ended = [worker.ended for worker in workers]
        _, late = await asyncio.wait(ended, timeout=(delay_ms + self._settings.drain_ms) / 1000 + STOP_GRACE_S)
        if late:
            log.error("%d workers do not end: ending them now", len(late))
            for worker in workers:
                worker.kill()
            await asyncio.wait(ended)

    def _with_ports(self, settings: Settings, listening: Listening) -> Settings:
        return replace(settings, ws=listening.ws, grpc=listening.grpc, http=listening.http)

    def _with_fixed(self, settings: Settings) -> Settings:
        for name in FIXED:
            if getattr(settings, name) != getattr(self._given, name):
                log.warning("%s has changed, which takes a restart: it stays as it is", name)
        return replace(settings, **{name: getattr(self._settings, name) for name in FIXED})

    # The HTTP port

    async def _checks(self) -> dict[str, Check]:
        """Of all workers that take connections: where there is none, the system leads nobody."""
        asked = self._serving()
        answers = dict(zip(asked, await asyncio.gather(*map(_checks_of, asked)), strict=True))
        # Now: one that was told to stop meanwhile says so, and is no longer counted.
        serving = [] if self._stop.is_set() else self._serving()
        text = "stopping" if self._stop.is_set() else f"{len(serving)} of {self._settings.workers} take connections"
        found = {"workers": Check(bool(serving), text)}
        for worker in serving:
            found |= {f"worker {worker.number} {name}": check for name, check in answers.get(worker, {}).items()}
        return found

    async def _metrics(self, form: PageFormat) -> bytes:
        """Of all processes in a place that answer in time, and whether one takes connections."""
        workers = self._serving()
        pages = await asyncio.gather(*(_page_of(worker, form) for worker in workers))
        found = {str(worker.number): page for worker, page in zip(workers, pages, strict=True)}
        ready = not self._stop.is_set() and bool(self._serving())
        return merge_pages(found, readiness_page({"workers": ready}, form).decode()).encode()

    # Signals

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()

        def asked(number: signal.Signals) -> None:
            if self._stop.is_set():
                # The operator does not want to wait: no goodbyes, and an end by the signal itself.
                for worker in self._alive:
                    worker.kill()
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            delay_ms = delay_for(number, self._settings.shutdown_delay_ms)
            log.info("stopping: the workers say goodbye to all%s", f" in {delay_ms} ms" if delay_ms else "")
            self._ending.ask(delay_ms)

        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, asked, number)
        loop.add_signal_handler(signal.SIGHUP, self._roll.set)
        try:
            yield
        finally:
            for number in (*STOP_SIGNALS, signal.SIGHUP):
                loop.remove_signal_handler(number)


def _now_s() -> float:
    return asyncio.get_running_loop().time()


async def _checks_of(worker: Worker) -> dict[str, Check]:
    try:
        answer = await worker.ask("checks")
    except TimeoutError:
        return {"process": Check(ok=False, text="does not answer")}
    except WorkerGone:
        return {"process": Check(ok=False, text="has just ended")}
    return answer.checks or {"process": Check(ok=False, text="failed to tell; its log says why")}


async def _page_of(worker: Worker, form: PageFormat) -> str:
    try:
        return (await worker.ask("metrics", form=form)).page
    except (TimeoutError, WorkerGone):
        return ""
