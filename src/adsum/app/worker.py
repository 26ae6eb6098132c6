"""One of several processes on the same ports: a whole service, started and stopped by a supervisor.

Invariant: it does not outlive its supervisor: when that is gone, it says goodbye to
all at once, and ends.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import replace

from adsum.app.channel import Answer, Ask, Begin, Channel, Order, Ready, Reload, Stop, order_channel, unpack
from adsum.app.run import Ending, Service, hangup_signal, spare_collector, stop_signals
from adsum.app.settings import Settings

log = logging.getLogger(__name__)


async def work(sock: socket.socket, prepare: Callable[[Settings, int], None]) -> None:
    """Be the worker at the other end of `sock`; `prepare` is called first, with its settings and number.

    Raises as `Service.start` does.
    """
    channel = await order_channel(sock)
    begin = await channel.receive()
    if not isinstance(begin, Begin):
        return
    settings = unpack(begin.settings)
    if settings.node:
        # The old and the new worker of a number live side by side for a while.
        settings = replace(settings, node=f"{settings.node}-{os.getpid()}")

    def reload(order: Reload) -> None:
        service.use(order.secret)
        prepare(unpack(order.settings), begin.number)

    prepare(settings, begin.number)
    # A SIGHUP for all processes is one for the supervisor, which tells each what to do.
    with stop_signals(settings.shutdown_delay_ms) as ending, hangup_signal(lambda: None):
        service = Service(settings, begin.secret, shared=True)
        await service.start()
        spare_collector()
        log.info("node %s takes connections", service.parts.node.name)
        channel.send(Ready())
        await _serve(service, channel, ending, reload)


async def _serve(service: Service, channel: Channel[Order], ending: Ending, reload: Callable[[Reload], None]) -> None:
    """Serve until told to stop, by the supervisor, its end or a signal."""
    orders = asyncio.create_task(_obey(service, channel, ending, reload), name="orders")
    stopped = asyncio.create_task(ending.asked.wait(), name="stop")
    await asyncio.wait((orders, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    service.leave()
    await asyncio.wait((orders,), timeout=ending.delay_ms / 1000)
    log.info("stopping: saying goodbye to %d connections", len(service.parts.node.registry))
    if orders.done():
        log.warning("the supervisor is gone")
        await service.stop(drain_ms=0)
    else:
        await service.stop()
    orders.cancel()
    log.info("stopped")


async def _obey(service: Service, channel: Channel[Order], ending: Ending, reload: Callable[[Reload], None]) -> None:
    """Do as the supervisor says, one thing after another, until it is gone."""
    while (order := await channel.receive()) is not None:
        match order:
            case Ask():
                channel.send(await _answer(service, order))
            case Reload():
                reload(order)
            case Stop():
                ending.ask(order.delay_ms)
            case Begin():
                log.error("the supervisor began twice")


async def _answer(service: Service, ask: Ask) -> Answer:
    try:
        if ask.what == "checks":
            return Answer(ask.id, checks=dict(await service.parts.readiness()))
        return Answer(ask.id, page=(await service.parts.metrics(ask.form)).decode())
    except Exception:
        # It costs an answer, not the connections.
        log.exception("cannot answer the supervisor")
        return Answer(ask.id)
