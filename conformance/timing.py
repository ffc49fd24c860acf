"""How long the suite waits for things.

What must happen is waited for long, since a sound adapter never lets us wait; what
must not happen is waited for briefly, since every run pays for that. All limits grow
with ``CONFORMANCE_PATIENCE``, for machines that are slow or busy.
"""

import os

__all__ = [
    "CHECK_S",
    "EXCHANGE_S",
    "HAPPENS_S",
    "PATIENCE",
    "PATIENCE_VARIABLE",
    "REST_S",
]

PATIENCE_VARIABLE = "CONFORMANCE_PATIENCE"
PATIENCE = float(os.environ.get(PATIENCE_VARIABLE, "1"))

# For an adapter to return, where nothing keeps it. Sound ones need milliseconds.
EXCHANGE_S = 2.0 * PATIENCE
# For one thing that must happen while the exchange goes on.
HAPPENS_S = 1.0 * PATIENCE
# For a whole check; its process is killed after that.
CHECK_S = 12.0 * PATIENCE
# A count that did not change for this long has come to rest.
REST_S = 0.05 * PATIENCE
