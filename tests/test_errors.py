"""What applications and frameworks can catch, and what a refusal carries."""

import pickle
import sys
from types import ModuleType
from typing import Any

import pytest
from django.http.request import UnreadablePostError
from werkzeug import exceptions as werkzeugs

from wsgi_asgi import ClientDisconnected
from wsgi_asgi._errors import (
    IncompleteBody,
    RequestRefused,
    disconnect_error,
    stems_from,
    websocket_error,
)


@pytest.mark.parametrize(
    ("error", "classes"),
    [
        pytest.param(
            ClientDisconnected("left"), (ConnectionResetError, OSError), id="left"
        ),
        pytest.param(IncompleteBody("short"), (OSError,), id="short"),
        pytest.param(RequestRefused("400 Bad Request", "No."), (OSError,), id="no"),
    ],
)
def test_error_of_reading_is_what_sockets_raise(
    error: Exception, classes: tuple[type[Exception], ...]
) -> None:
    # Frameworks turn an OSError of wsgi.input into an error of their own.
    for kind in classes:
        assert isinstance(error, kind)


# The classes of others.


def test_disconnect_is_werkzeugs_too_where_that_is_loaded() -> None:
    error = disconnect_error("the client has left")
    assert isinstance(error, ClientDisconnected)
    assert isinstance(error, werkzeugs.ClientDisconnected)
    assert str(error) == "the client has left"
    response = error.get_response({})
    assert response.status_code == 400


def test_disconnect_of_werkzeug_is_still_what_django_makes_its_own_of() -> None:
    error = disconnect_error("the client has left")
    assert isinstance(error, OSError)
    assert str(UnreadablePostError(*error.args)) == "the client has left"


@pytest.mark.parametrize(
    "module",
    [None, ModuleType("werkzeug.exceptions"), "no class"],
    ids=["not loaded", "only begun to load", "of another kind"],
)
def test_disconnect_is_ours_alone_where_there_is_no_other(
    monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    if module == "no class":
        module = ModuleType("werkzeug.exceptions")
        module.ClientDisconnected = "no class"
    monkeypatch.setitem(sys.modules, "werkzeug.exceptions", module)
    assert type(disconnect_error("left")) is ClientDisconnected


@pytest.mark.parametrize("make", [disconnect_error, websocket_error])
def test_error_of_two_classes_has_one_class_made_for_all(make: Any) -> None:
    assert type(make("one")) is type(make("two"))


def test_error_of_two_classes_can_be_pickled_as_ours() -> None:
    error = pickle.loads(pickle.dumps(disconnect_error("left")))
    assert (type(error), error.args) == (ClientDisconnected, ("left",))


def test_error_of_two_classes_is_named_and_described_as_ours() -> None:
    kind = type(disconnect_error("left"))
    for name in ("__module__", "__qualname__", "__doc__"):
        assert getattr(kind, name) == getattr(ClientDisconnected, name)


def test_error_of_a_short_body_is_no_disconnect() -> None:
    assert not issubclass(IncompleteBody, ConnectionError)
    assert not issubclass(RequestRefused, ConnectionError)


def test_refusal_carries_what_the_client_is_to_see() -> None:
    refusal = RequestRefused(
        "503 Service Unavailable", "Try again.", (("Retry-After", "1"),)
    )
    assert refusal.status == "503 Service Unavailable"
    assert refusal.reason == "Try again."
    assert refusal.headers == (("Retry-After", "1"),)
    assert str(refusal) == "503 Service Unavailable: Try again."
    assert RequestRefused("400 Bad Request", "No.").headers == ()


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def beside(error: BaseException, context: BaseException) -> BaseException:
    error.__context__ = context
    return error


LEFT = ClientDisconnected("left")
SELF = KeyError("self")
caused(SELF, SELF)
FIRST, SECOND = KeyError("first"), KeyError("second")
caused(FIRST, SECOND)
beside(SECOND, FIRST)


class EmptyError(Exception):
    """It is false, as an empty list is."""

    def __len__(self) -> int:
        return 0


def in_a_cycle(*, with_left: bool) -> BaseException:
    """Make an error whose second cause is in a cycle that does not hold itself."""
    one, two = KeyError(1), KeyError(2)
    caused(one, caused(two, ClientDisconnected("left") if with_left else one))
    return caused(KeyError(3), one)


def group_around(error: BaseException) -> BaseException:
    """Make a group that is the cause of its own member."""
    group = BaseExceptionGroup("group", [error])
    caused(error, group)
    return group


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(LEFT, True, id="itself"),
        pytest.param(KeyError(), False, id="another"),
        pytest.param(caused(KeyError(), LEFT), True, id="cause"),
        pytest.param(beside(KeyError(), LEFT), True, id="context"),
        pytest.param(caused(KeyError(), beside(KeyError(), LEFT)), True, id="both"),
        pytest.param(caused(KeyError(), EmptyError()), False, id="false cause"),
        pytest.param(
            caused(beside(KeyError(), LEFT), EmptyError()), False, id="other cause"
        ),
        pytest.param(SELF, False, id="its own cause"),
        pytest.param(FIRST, False, id="each the other's"),
        pytest.param(in_a_cycle(with_left=False), False, id="cycle further on"),
        pytest.param(in_a_cycle(with_left=True), True, id="end of a long chain"),
        pytest.param(ExceptionGroup("g", [LEFT, LEFT]), True, id="group, twice"),
        pytest.param(
            BaseExceptionGroup("g", [LEFT, caused(KeyError(), LEFT)]), True, id="group"
        ),
        pytest.param(
            ExceptionGroup("g", [LEFT, KeyError()]), False, id="group with another"
        ),
        pytest.param(
            ExceptionGroup("g", [ExceptionGroup("h", [LEFT])]), True, id="groups"
        ),
        pytest.param(caused(ExceptionGroup("g", [KeyError()]), LEFT), True, id="of it"),
        pytest.param(group_around(KeyError()), False, id="group of itself"),
    ],
)
def test_error_stems_from_its_causes_and_members_without_end(
    error: BaseException, expected: bool
) -> None:
    assert stems_from(error, ClientDisconnected) is expected


def test_error_with_very_many_ways_to_its_causes_is_looked_through_once() -> None:
    group: ExceptionGroup[Exception] = ExceptionGroup("g", [KeyError(), KeyError()])
    for _ in range(64):
        group = ExceptionGroup("g", [group, group])
    assert not stems_from(group, ClientDisconnected)
    left: ExceptionGroup[Exception] = ExceptionGroup("g", [LEFT])
    for _ in range(64):
        left = ExceptionGroup("g", [left, left])
    assert stems_from(left, ClientDisconnected)
