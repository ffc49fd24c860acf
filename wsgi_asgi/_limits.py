"""How much of everything an adapter may use, and how much it uses now."""

from dataclasses import dataclass, fields

__all__ = ["Limits", "Stats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what requests can make the adapter hold.

    Attributes:
        buffer: Bytes held for one request in each direction. A request body of
            a declared length up to this is received before a thread is taken;
            longer ones are read ahead by this much. A response runs ahead of
            its client by this much and the chunk in hand. Where client and
            application are so quick that each waits for the other, it grows
            to at most 1 MiB for a body and 2 MiB for a response, out of `windows`.
        windows: Bytes by which all requests together may hold more than their
            `buffer`. Clients that stall after a quick start hold no more than
            this, and each its `buffer`.
        body: Bytes of the longest request body that is accepted; a longer one
            gets 413. `None` accepts any.
        spool: Bytes of the longest request body that is received whole before the
            application runs, in memory up to `buffer` and in a temporary file
            beyond it. A longer one gets 413.
        spool_total: Bytes of all such bodies together; a request whose body would
            be beyond it gets 503. `None` for half of the space that is free in the
            folder for temporary files, and at most 4 GiB.
        uploads: How many requests may have a body that streams. Each may hold a
            thread that waits for more of it, beside those that `threads` bounds.
            The body of a further one is received whole first. It gets 503 if that
            would be longer than `spool`, or if the application runs already, since
            over HTTP/2 nothing has announced a body.
        streams: How many streaming responses, beside the quick requests that
            `threads` bounds, may each hold a thread.
        websockets: How many accepted WebSockets, beside all requests, may each
            hold a thread. Further ones get 503. One that is not accepted yet is
            a request like any other.
        abandoned_timeout: Seconds for which a request whose client has left may
            still wait for a thread. This is for methods that change something,
            such as POST; with a safe method, such as GET, it is dropped at once.
        shutdown_timeout: Seconds that a shutdown waits for running requests and
            open WebSockets.

    Raises:
        ValueError: A bound is negative, or `buffer` is zero.

    >>> Limits(body=10_000_000).buffer
    65536
    """

    buffer: int = 65536
    windows: int = 8_388_608
    body: int | None = None
    spool: int = 1_073_741_824
    spool_total: int | None = None
    uploads: int = 100
    streams: int = 1000
    websockets: int = 1000
    abandoned_timeout: float = 5.0
    shutdown_timeout: float = 10.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            if value is None or value < 0:
                raise ValueError(
                    f"Limits({field.name}={value!r}): a limit is a number, zero or more"
                )
        if self.buffer == 0:
            raise ValueError("Limits(buffer=0): nothing could pass; give it bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What an adapter is doing, at one moment.

    Attributes:
        threads: Threads alive in the pool, busy or waiting for work. Zero
            where the adapter was given an executor of another kind.
        busy: Requests that hold a thread, streaming ones included, and those
            for a WebSocket that is not accepted.
        queued: Requests that wait for a thread, those for a WebSocket included.
        streams: Requests whose response streams.
        websockets: WebSockets that are accepted, each of which holds a thread
            beside those.
        completed: Requests that ended with a complete response.
        rejected: Requests, those for a WebSocket included, that the adapter
            answered itself (4xx and 503).
        disconnected: Requests whose client left before the response was
            complete, or whose task the server cancelled.
        dropped: Those of them that had to wait for a thread too long after that, see
            `Limits.abandoned_timeout`. The application has not seen them.
    """

    threads: int
    busy: int
    queued: int
    streams: int
    websockets: int
    completed: int
    rejected: int
    disconnected: int
    dropped: int
