"""Test clients of WSGI frameworks, sent through the adapter.

`through_asgi` plays the server's part: it makes an ASGI scope of the environ that a
test client has built, has the adapter serve it on an event loop, and gives the
client the response as WSGI has it. `django_client` puts that into Django's client.

    thread of the test                       thread of one request
    ──────────────────                       ─────────────────────
    environ ───────────────────────────────▶ scope, receive(), send()
                                             adapter
    application ◀─────────────────────────── executor.submit()
    start_response(), chunks ◀────────────── send()
    close() ───────────────────────────────▶ http.disconnect

Each request has a loop of its own, in a thread that ends with it. So nothing has to
be closed after the tests, nothing is left behind by them, and they may run in
parallel or fork.
"""

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from contextlib import suppress
from contextvars import ContextVar, copy_context
from http.client import responses
from queue import Empty, Queue
from threading import Thread
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote_from_bytes, unquote_to_bytes
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from wsgi_asgi._adapter import WsgiToAsgi
from wsgi_asgi._pool import numbered
from wsgi_asgi._types import Message, Scope

__all__ = ["django_client", "through_asgi"]

P = ParamSpec("P")
T = TypeVar("T")
Headers = list[tuple[str, str]]
Head = tuple[str, Headers]

# The most of a request body that goes into one message. Far less than servers take,
# so that also the small bodies of tests come in pieces.
PIECE_BYTES = 4096
# How long a stream may go on after its client has left. It ends at its next chunk.
LEAVE_S = 5.0


def through_asgi(
    application: WSGIApplication, *, stream: bool = False, **options: Any
) -> WSGIApplication:
    """Make a WSGI application that answers by way of ASGI and the adapter.

    It is for test clients. The application runs in the thread of the test, so it
    shares what tests bind to their thread, such as a database connection with an
    open transaction. What it raises, the client sees.

    Args:
        application: The WSGI application.
        stream: Run each request in a thread of its own, and give chunks to the
            client as they come. Else the application runs to the end of its
            response first, which a stream without end does not have.
        options: Those of `WsgiToAsgi`. `stream` decides where requests run, in
            place of `threads`, `executor` and `thread_sensitive`. Hooks do not run.

    Returns:
        A WSGI application. Closing the iterable that it returns means that the
        client leaves; with `stream` that must be done (PEP 3333, Specification
        Details).

    Raises:
        TypeError: The application or an option is none for `WsgiToAsgi`.
        ValueError: An option is out of its range.

    >>> def hello(environ, start_response):
    ...     start_response("200 OK", [("Content-Type", "text/plain")])
    ...     return [b"Hello"]
    >>> from wsgiref.util import setup_testing_defaults
    >>> environ = {}
    >>> setup_testing_defaults(environ)
    >>> list(through_asgi(hello)(environ, print))
    200 OK [('Content-Type', 'text/plain'), ('content-length', '5')]
    [b'Hello']
    """
    WsgiToAsgi(application, **options)  # raises for what it does not take
    options |= {"executor": _Threads(), "thread_sensitive": False}
    adapter = WsgiToAsgi(_completing(application), **options)

    def answer(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        chunks = _Exchange(adapter, environ, stream).chunks(start_response)
        next(chunks)  # up to the call of start_response()
        return chunks

    return answer


def django_client(client_class: type[T], **options: Any) -> type[T]:
    """Make a class of Django test clients that go through the adapter.

    What such clients offer stays: the request, templates and contexts of a
    response, the exceptions of views, the transaction of a ``TestCase``. Status,
    headers and content of a response are those that come out of the adapter.

    Args:
        client_class: ``django.test.Client``, or a class made from it.
        options: As for `through_asgi`.

    Returns:
        A subclass, for example to be the ``client_class`` of test cases.
    """

    class Client(client_class):  # type: ignore[misc,valid-type]  # mypy knows no such bases
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            # Its class and not the handler, of which tests set attributes.
            kind = type(self.handler)
            self.handler.__class__ = type(kind.__name__, (_DjangoHandler, kind), {})
            self.handler.options = options

    return Client


class _Threads(Executor):
    """Where requests run, as `through_asgi` tells."""

    def submit(
        self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Run work of the adapter, which raises nothing and awaits no result."""
        exchange = _exchange.get()
        job = functools.partial(work, *args, **kwargs)
        if exchange.stream:
            thread = Thread(
                target=job, name=numbered("wsgi-testing-stream"), daemon=True
            )
            exchange.threads.append(thread)
            thread.start()
        else:
            exchange.events.put(job)
        return Future()


class _Exchange:
    """One request and its response, between a test client and the adapter.

    Attributes:
        head: Status and headers as the application wrote them.
        events: For the client's thread: messages, work that it is to do, and None
            at the end. With `stream` the loop waits for it to take one, so that no
            stream runs far ahead of its client.
        threads: All that the request has besides: the loop's, and streams'.
    """

    head: Head = ("", [])
    _over = False  # None has come
    _error: BaseException | None = None

    def __init__(
        self, adapter: WsgiToAsgi, environ: WSGIEnvironment, stream: bool
    ) -> None:
        self.environ = environ
        self.stream = stream
        self.events: Queue[Message | Callable[[], object] | None] = Queue(
            maxsize=1 if stream else 0
        )
        self._adapter = adapter
        self._scope = _build_scope(environ)
        self._body = deque(_request_messages(environ))
        self._ended = asyncio.Event()  # there will be no more of the response
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        # A test's context variables reach the application, as without the adapter.
        self._context = copy_context()
        self._context.run(_exchange.set, self)
        # A daemon, as those of the pool are: it must not hold up an exit.
        self.threads = [
            Thread(target=self._run, name=numbered("wsgi-testing"), daemon=True)
        ]

    # In the client's thread.

    def chunks(self, start_response: StartResponse) -> Generator[bytes, None, None]:
        """Serve the request: an empty chunk once it has a response, then the body.

        Raises:
            BaseException: What the application raised.
            RuntimeError: It goes on although the client has left.
        """
        self.threads[0].start()
        try:
            while message := self._next_message():
                if message["type"] == "http.response.start":
                    start_response(*_restored_head(message, *self.head))
                    yield b""
                elif message["body"]:
                    yield message["body"]
        finally:
            self._hang_up()

    def _next_message(self, timeout: float | None = None) -> Message | None:
        """Do what work comes, until there is a message, or None at the end."""
        while callable(event := self.events.get(timeout=timeout)):
            event()
        self._over = event is None
        return event

    def _hang_up(self) -> None:
        """Leave, unless the end has come, and see that nothing runs on."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._ended.set)
        try:
            while not self._over:
                self._next_message(LEAVE_S)
        except Empty:
            raise RuntimeError(
                f"the client has left, and {LEAVE_S:g} seconds later the application "
                f"has not given another chunk, nor ended"
            ) from None
        for thread in self.threads:
            thread.join()
        error = self._error
        if isinstance(error, RuntimeError) and not isinstance(
            error.__cause__, Exception | None
        ):
            error = error.__cause__  # what ends programs, the adapter hides from loops
        if error is not None:
            raise error

    # In the thread of the loop.

    def _run(self) -> None:
        try:
            with self._runner as runner:
                serving = self._adapter(self._scope, self._receive, self._send)
                runner.run(serving, context=self._context)
        except BaseException as error:
            self._error = error
        finally:
            self.events.put(None)

    async def _receive(self) -> Message:
        if self._body:
            return self._body.popleft()
        await self._ended.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await asyncio.sleep(0)  # for receive() to tell that the client has left
        if message.get("more_body") is False:
            self._ended.set()
        self.events.put(message)


_exchange: ContextVar[_Exchange] = ContextVar("_exchange")


def _completing(application: Any) -> WSGIApplication:
    """Let pass between client and application also what ASGI has no place for.

    A test sets REMOTE_USER for a server that authenticates, Flask's client leaves a
    function in the environ by which it keeps contexts, and tests look at reasons.
    """

    def call(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        exchange = _exchange.get()
        for key, value in exchange.environ.items():
            if not key.startswith(("HTTP_", "CONTENT_", "wsgi.")):
                environ.setdefault(key, value)
        environ["wsgi.errors"] = exchange.environ["wsgi.errors"]

        def begin(
            status: str, headers: Headers, *exc_info: Any
        ) -> Callable[[bytes], object]:
            write = start_response(status, headers, *exc_info)
            exchange.head = (status, headers)
            return write

        iterable: Iterable[bytes] = application(environ, begin)
        return iterable

    # The adapter's messages speak of the application by its name.
    named = application if hasattr(application, "__qualname__") else type(application)
    return functools.update_wrapper(call, named, updated=())


def _restored_head(message: Message, status: str, headers: Headers) -> Head:
    """Give status and headers for WSGI, in the application's spelling."""
    code = str(message["status"])
    if not status.startswith(code):  # the adapter answers by itself
        status = f"{code} {responses.get(int(code), 'Unknown')}"
    names = {name.lower(): name for name, _ in headers}
    received = [
        (name.decode(), value.decode("latin-1")) for name, value in message["headers"]
    ]
    return status, [(names.get(name, name), value) for name, value in received]


def _build_scope(environ: WSGIEnvironment) -> Scope:
    root_path = environ.get("SCRIPT_NAME", "").encode("latin-1")
    path = root_path + environ.get("PATH_INFO", "").encode("latin-1")
    # Clients that tell what was asked for know which slashes were escaped.
    raw_path = environ.get("REQUEST_URI", "").partition("?")[0].encode("latin-1")
    if unquote_to_bytes(raw_path) != path:
        raw_path = quote_from_bytes(path, safe="/!$&'()*+,;=:@~").encode()
    address = environ.get("REMOTE_ADDR")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": environ.get("SERVER_PROTOCOL", "HTTP/1.1").partition("/")[2],
        "method": environ["REQUEST_METHOD"].upper(),
        "scheme": environ["wsgi.url_scheme"],
        "path": path.decode("utf-8", "replace"),
        "raw_path": raw_path,
        "query_string": environ.get("QUERY_STRING", "").encode("latin-1"),
        "root_path": root_path.decode("utf-8", "replace"),
        "headers": [
            (
                key.removeprefix("HTTP_").replace("_", "-").lower().encode(),
                str(value).encode("latin-1"),
            )
            for key, value in environ.items()
            # PEP 3333, environ Variables: these two may be empty instead of absent.
            if key.startswith("HTTP_")
            or (key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value)
        ],
        "client": (address, int(environ.get("REMOTE_PORT", 0))) if address else None,
        "server": (environ["SERVER_NAME"], int(environ["SERVER_PORT"])),
    }


def _request_messages(environ: WSGIEnvironment) -> list[Message]:
    """Read the request body, in the test's thread, and cut it into messages."""
    body = b""
    length = str(environ.get("CONTENT_LENGTH", ""))
    if length.isdecimal():
        body = environ["wsgi.input"].read(int(length))
    elif environ.get("wsgi.input_terminated") or "HTTP_TRANSFER_ENCODING" in environ:
        body = environ["wsgi.input"].read(-1)
    return [
        {
            "type": "http.request",
            "body": body[start : start + PIECE_BYTES],
            "more_body": start + PIECE_BYTES < len(body),
        }
        for start in range(0, len(body) or 1, PIECE_BYTES)
    ]


class _DjangoHandler:
    """What a handler of Django's client becomes: it asks itself by way of ASGI."""

    options: dict[str, Any]  # of through_asgi()

    def __call__(self, environ: WSGIEnvironment) -> Any:
        """Give Django's response object, with what has come through the adapter."""
        handle = super().__call__  # type: ignore[misc]  # that of the class beside this one
        made: list[Any] = []
        head: list[Any] = []

        def application(
            environ: WSGIEnvironment, start_response: StartResponse
        ) -> Iterable[bytes]:
            response = handle(environ)
            made.append(response)
            cookies = response.cookies.values()
            start_response(
                f"{response.status_code} {response.reason_phrase}",
                [
                    *response.items(),
                    *(("Set-Cookie", cookie.OutputString()) for cookie in cookies),
                ],
            )
            # Not the response itself: that it is closed is the handler's care.
            return iter(response) if response.streaming else [response.content]

        adapted: Any = through_asgi(application, **self.options)
        chunks = adapted(environ, lambda *arguments: head.extend(arguments))
        if not made:  # the adapter has answered by itself
            from django.core.handlers.wsgi import WSGIRequest
            from django.http import HttpResponse

            made.append(HttpResponse())
            made[0].wsgi_request = WSGIRequest(environ)
        [response], (status, headers) = made, head
        response.status_code = int(status[:3])
        kept = {name: value for name, value in headers if name != "Set-Cookie"}
        response.headers = type(response.headers)(kept)
        if response.streaming:
            response.streaming_content = chunks
        else:
            response.content = b"".join(chunks)
        return response
