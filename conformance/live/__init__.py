"""The part of the suite that puts an adapter on real servers.

    python -m conformance --live                    our adapter on all of them
    python -m conformance --live --server uvicorn   on those whose name begins so

A promise (`conformance.live.promises`) is what users of an adapter count on, and what
only a real server, a real socket and a real process show: that a client's leaving is
noticed, that a process ends when it is asked to. Each runs as a subprocess on this
machine, with an application of ours behind the adapter, and is killed in the end.
"""
