"""What a request inherits in context variables, and cannot use as it is.

A request runs in a copy of its task's context. But the copy holds the same values,
and some of those are objects that can be changed. Under a WSGI server each thread has
such objects of its own, so applications change them and expect to be alone. And one
value is true of the loop's thread only.
"""

import sys
import warnings
from contextvars import Context

__all__ = ["make_own"]


def make_own(context: Context) -> None:
    """Change inherited values so that they suit one request in a thread.

    The contexts of `decimal`, and of `warnings` since Python 3.14, are replaced by
    copies, so that no other request sees what this one changes in them. They are not
    made anew, since what was set while the application was imported is meant for all
    requests. Under ``anyio.run()`` a variable of `sniffio` names the loop; the thread
    has none, and could not run one if it seemed to.

    Args:
        context: The one that is entered.
    """
    # Looked for each time, since modules may be imported later, and in their
    # dictionaries, since an attribute that is missing costs ten times as much.
    modules = sys.modules
    decimal = modules.get("decimal")
    arithmetic = vars(decimal).get("Context") if decimal else None
    sniffio = modules.get("sniffio")
    library = vars(sniffio).get("current_async_library_cvar") if sniffio else None
    names = vars(warnings)
    filters = names.get("_warnings_context")
    for variable, value in context.items():
        # The global context may stand there as well; whoever changes that means to.
        if type(value) is arithmetic or (
            variable is filters and value is not names.get("_global_context")
        ):
            variable.set(value.copy())
        elif variable is library:
            variable.set(None)
