"""What applications and frameworks can catch, and what a refusal carries."""

import pytest

from wsgi_asgi import ClientDisconnected
from wsgi_asgi._errors import IncompleteBody, RequestRefused


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
