"""The process in which an adapter lives: how it exits, and what a fork leaves."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.drivers import (
    WAIT_S,
)

ROOT = Path(__file__).parent.parent

SCRIPT = """
import asyncio, os, sys, threading, time
from tests.apps import *
from tests.drivers import *
from wsgi_asgi import WsgiToAsgi

begun = Gate("the application runs")
server = uploading(piece(b"ab"), Gate("more of the body comes"))
"""


def _script(text: str) -> str:
    return SCRIPT + textwrap.dedent(text)


def run_process(script: str) -> None:
    """Run a script; it must end soon, well, and without a word."""
    process = start_process(script)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


def start_process(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script, which must end soon."""
    return subprocess.run(
        [sys.executable, "-bb", "-W", "error", "-W", "ignore:This process", "-c"]
        + [script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


STUCK = {
    "after requests": """
        server = HttpServer()

        def app(environ, start_response):
            begun.open()
            return hello(environ, start_response)
    """,
    "in an endless stream": """
        server.stall_at(2)

        def app(environ, start_response):
            start(start_response)
            begun.open()
            return endless(b"x" * 50_000)
    """,
    "in a step that never ends": """
        def app(environ, start_response):
            start(start_response)
            yield b"first"
            begun.open()
            threading.Event().wait()
    """,
    "in a call that never ends": """
        def app(environ, start_response):
            begun.open()
            threading.Event().wait()
    """,
    "in a read": """
        def app(environ, start_response):
            begun.open()
            environ["wsgi.input"].read()
    """,
    "in async code": """
        from asgiref.sync import async_to_sync

        async def view():
            begun.open()
            await asyncio.Event().wait()

        def app(environ, start_response):
            async_to_sync(view)()
    """,
}


@pytest.mark.parametrize("stuck", STUCK.values(), ids=STUCK.keys())
@pytest.mark.parametrize(
    "ending",
    [
        pytest.param("asyncio.run(main())", id="loop ended in order"),
        pytest.param(
            """
            loop = asyncio.new_event_loop()
            loop.run_until_complete(main())
            loop.close()
            # asyncio's own word on that is not at issue.
            tasks[0]._log_destroy_pending = False
            """,
            id="loop just left",
        ),
    ],
)
def test_process_whose_threads_are_stuck_exits_promptly(
    stuck: str, ending: str
) -> None:
    main = """
        tasks = []

        async def main():
            tasks.append(asyncio.create_task(server.run(WsgiToAsgi(app, spool=False))))
            await begun.reached()
    """
    run_process(_script(stuck) + textwrap.dedent(main) + textwrap.dedent(ending))


# asgiref's one thread does not survive a fork, so there is no such case for it.
@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork here")
def test_process_forked_after_use_serves() -> None:
    script = """
        import signal

        app = WsgiToAsgi(hello_in_pieces)

        def check():
            server = HttpServer()
            serve(app, server)
            assert server.body == b"Hello"

        check()
        child = os.fork()
        signal.alarm(5)  # so that no failure leaves a child behind
        check()
        if child:
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    run_process(_script(script))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork here")
def test_process_forked_while_uploads_arrive_holds_nothing_of_them() -> None:
    script = """
        import signal
        from wsgi_asgi import Limits, _body, _bridge

        limits = Limits(buffer=2, spool_total=6, windows=100)
        app = WsgiToAsgi(echo, limits=limits)
        uploads, storage = app._http.intake.uploads, app._http.intake.storage
        windows = app._bridge.windows
        never = Gate("the body comes")
        spooled = uploading(piece(b"abcd"), never)
        streamed = uploading(piece(b"x"), never, header=length(9))

        async def main():
            async with asyncio.TaskGroup() as tasks:
                for server in (spooled, streamed):
                    tasks.create_task(server.run(app))
                    await server.received(2).reached()
                await until_busy()
                windows._left -= 5
                assert (uploads.taken, storage._used) == (1, 4)
                with (
                    storage._lock,
                    windows._lock,
                    _body._OPENING,
                    _bridge._BELLS,
                    _bridge._STREAMS,
                ):
                    child = os.fork()
                    signal.alarm(5)  # so that no failure leaves a child behind
                    if not child:
                        work_in_child()
                for server in (spooled, streamed):
                    server.left.open()
            return child

        async def until_busy():
            while app.stats().busy < 1:
                await asyncio.sleep(0.001)

        def work_in_child():
            server = posting(b"abcd", declared=False)
            thread = threading.Thread(target=serve, args=(app, server))
            thread.start()
            thread.join()
            left = app.stats().busy, uploads.taken, storage._used, windows._left
            os._exit((server.body, left) != (b"abcd", (0, 0, 0, 100)))

        child = asyncio.run(main())
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    run_process(_script(script))


# gevent in the place of threads.

GEVENT = """
from gevent import monkey
monkey.{patch}
import wsgi_asgi
from tests.apps import *
from tests.drivers import *

app = wsgi_asgi.WsgiToAsgi(hello)
"""


@pytest.mark.parametrize("patch", ["patch_all()", "patch_thread()"])
def test_process_with_threads_of_gevent_is_told_so_when_an_adapter_is_made(
    patch: str,
) -> None:
    process = start_process(GEVENT.format(patch=patch))
    assert process.returncode == 1
    last = process.stderr.splitlines()[-1]
    assert last.startswith("RuntimeError: gevent has patched threading")
    assert ("socket" in last) is (patch == "patch_all()")
    assert "leave threads alone by gevent.monkey.patch_all(thread=False" in last


def test_process_with_all_of_gevent_but_its_threads_serves() -> None:
    patch = "patch_all(thread=False, subprocess=False, os=False, signal=False)"
    script = GEVENT.format(patch=patch)
    run_process(
        script
        + textwrap.dedent(
            """
            server = HttpServer()
            serve(app, server)
            assert server.body == b"Hello"
            """
        )
    )


def test_import_starts_no_thread_and_no_loop() -> None:
    run_process(
        textwrap.dedent(
            """
            import threading
            import sys
            import wsgi_asgi
            assert threading.active_count() == 1
            assert "concurrent.futures.process" not in sys.modules
            assert "pickle" not in sys.modules
            """
        )
    )
