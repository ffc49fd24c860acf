"""What a request inherits in context variables, and must not share.

A request runs in a copy of its task's context. But the copy holds the same values,
and some of those are objects that can be changed. Under a WSGI server each thread has
such objects of its own, so applications change them and expect to be alone.
"""

import sys
import warnings
from contextvars import Context

__all__ = ["unshare"]


def unshare(context: Context) -> None:
    """Replace values that can be changed by copies, so that no other request sees it.

    Those are the standard library's: the context of `decimal`, and that of `warnings`
    since Python 3.14. They are copied and not made anew, since what was set while the
    application was imported is meant for all requests.

    Args:
        context: The one that is entered.
    """
    # Looked for each time, since modules may be imported later, and in their
    # dictionaries, since an attribute that is missing costs ten times as much.
    decimal = sys.modules.get("decimal")
    arithmetic = vars(decimal).get("Context") if decimal else None
    names = vars(warnings)
    filters = names.get("_warnings_context")
    for variable, value in context.items():
        # The global context may stand there as well; whoever changes that means to.
        if type(value) is arithmetic or (
            variable is filters and value is not names.get("_global_context")
        ):
            variable.set(value.copy())
