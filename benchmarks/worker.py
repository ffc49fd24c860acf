"""The process of one contender in one case: it measures a round when it is told to.

A process of its own for each, fresh for each case: contenders share no interpreter
lock, no heap to collect and no thread pool, and one that hangs is ended without
touching another. All have the same seed of hashes and the same client.

Before the rounds the contender answers one request, which is checked whole, and
then some more for `WARM_UP_S`. What is there by then is taken out of collections, as
servers do it that fork; collecting goes on as usual in the rounds, since garbage is
part of what a request costs, and each round begins with none.
"""

import asyncio
import gc
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.applications import application
from benchmarks.cases import Case, make_scope
from benchmarks.client import Client, WrongAnswer, run_round
from benchmarks.contenders import find_contender, make_app
from benchmarks.results import Trouble, TroubleKind

__all__ = ["READY", "loop_factory", "serve_rounds"]

READY = "ready"
WARM_UP_S = 0.1

# Asked to go on for some seconds, gives a count of requests and its seconds.
Round = Callable[[float], tuple[int, float]]


def serve_rounds(
    connection: Connection, contender: str, case: Case, loop: str, log_path: str
) -> None:
    """Answer each number of seconds with a round, until the process is ended.

    Args:
        connection: Sends `READY` once, then ``(count, seconds)`` for each number
            received; a `Trouble` instead is the last that is sent.
        contender: Its name.
        case: What it is asked.
        loop: ``asyncio`` or ``uvloop``.
        log_path: Where all that it prints goes.
    """
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        run = (
            _exchanges(contender, case, loop)
            if case.application
            else _environs(contender, case)
        )
        run(WARM_UP_S)
        gc.collect()
        gc.freeze()
        connection.send(READY)
        while True:
            seconds = connection.recv()
            gc.collect()
            connection.send(run(seconds))
    except WrongAnswer as error:
        connection.send(Trouble(TroubleKind.WRONG, str(error)))
    except Exception as error:  # whatever the contender raises is what is reported
        text = f"{type(error).__name__}: {error}"
        connection.send(Trouble(TroubleKind.RAISED, text))


def loop_factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Give what makes such a loop; None for asyncio's own."""
    if loop == "asyncio":
        return None
    import uvloop

    return uvloop.new_event_loop


def _exchanges(contender: str, case: Case, loop: str) -> Round:
    """Let the contender serve requests, on a loop that runs in its turns only."""
    runner = asyncio.Runner(loop_factory=loop_factory(loop))
    app: Any = make_app(find_contender(contender), application(case.application))
    client = Client(app, case)

    def run(seconds: float) -> tuple[int, float]:
        return runner.run(run_round(client, case.at_a_time, seconds))

    return run


def _environs(contender: str, case: Case) -> Round:
    from benchmarks.environs import count_environs, make_builder

    build = make_builder(contender)
    scope = make_scope(case)
    return lambda seconds: count_environs(build, scope, seconds)
