"""A conformance suite for adapters that run WSGI applications as ASGI applications.

    python -m conformance                                  our own adapter
    python -m conformance --adapter a2wsgi:WSGIMiddleware  any other
    python -m conformance --all                            all that are installed
    python -m conformance --loop trio                      on trio

Clauses (`conformance.clauses`) are a numbered reading of the specifications, checks
(`conformance.checks`) say what an adapter does about them, and the runner tries one
check after the other in a process of its own, so that an adapter that hangs or
crashes loses one row and not the run.

Nothing here knows any adapter from the inside: a check makes an adapter of a WSGI
application and plays the server for it.
"""
