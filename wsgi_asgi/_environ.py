"""One ASGI HTTP scope becomes one WSGI environ.

Pure functions: no I/O, no operating-system environment, no state but bounded
caches of header names. Whatever a client can put into a scope, nothing raises
here except `RequestRefused`, whose text is meant for that client.

Two vocabularies meet in this module. A scope's ``path`` and ``root_path`` are
decoded Unicode text; an environ's values are "native strings", text in which
each character stands for one byte (PEP 3333, Unicode Issues). `native` turns a path
into a native string, and all comparing and cutting happens after that, so it is done
on the bytes that the client sent.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from wsgi_asgi._errors import RequestRefused
from wsgi_asgi._types import Scope

__all__ = [
    "Framing",
    "ScopeView",
    "build_environ",
    "environ_key",
    "find_framing",
    "native",
    "parse_content_length",
    "parse_host",
    "split_path",
]

# Attackers choose header names, so what is remembered of them is bounded: about
# as many names as are registered, none longer than registered ones come.
CACHED_NAMES = 512
CACHED_NAME_BYTES = 64
# A server has few of its own, but might believe a proxy.
CACHED_ADDRESSES = 64

# RFC 9110 5.6.2, less the underscore: "X_Real_IP" and "X-Real-IP" would share a
# variable, so a client could forge what only a proxy may set (RFC 9110 17.10).
_NAME_TOKEN = re.compile(rb"[!#$%&'*+\-.^`|~0-9A-Za-z]+")
# Surrogates that do not stand for a byte (PEP 383).
_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_VALUE_BREAKS = re.compile(r"[\r\n\0]")

# An integer of more digits than this is no length that any disk holds.
_MAX_LENGTH_DIGITS = 18

# What RFC 3986 3.3 allows in a path without an escape, beside letters and digits.
_PATH_SAFE = "/!$&'()*+,;=:@~-._"

# A WebSocket is asked for by a request of HTTP. And middleware for proxies writes what
# the proxy has said, whether the scope is of the one or of the other.
_WEB_SCHEMES = {"ws": "http", "wss": "https"}

_TLS_VERSIONS = {
    0x0301: "TLSv1",
    0x0302: "TLSv1.1",
    0x0303: "TLSv1.2",
    0x0304: "TLSv1.3",
}


class ScopeView(Mapping[str, Any]):
    """The request's ASGI scope, to be read by the application.

    A view and not the scope: an application that changes its environ does not
    change what middleware sees afterwards. Not a `dict`, and short in its
    `repr`, because debug pages and error reports print the whole environ and
    know how to hide ``HTTP_COOKIE`` but not the cookie inside a scope.
    """

    __slots__ = ("_scope",)

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __getitem__(self, key: str) -> Any:
        return self._scope[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scope)

    def __len__(self) -> int:
        return len(self._scope)

    def __repr__(self) -> str:
        what = self._scope.get("method") or self._scope["type"]
        return f"<ASGI scope of {what} {self._scope['path']!r}>"


class Framing(NamedTuple):
    """What the headers of a request say of its body.

    Attributes:
        length: Its bytes, if they say that.
        is_coded: It has a transfer coding, which tells where it ends.
        expects_continue: The client waits to be asked for it (RFC 9110 10.1.1).
    """

    length: int | None
    is_coded: bool
    expects_continue: bool


UNFRAMED = Framing(None, False, False)

# In lower case, as servers have to give them (ASGI, HTTP connection scope).
_FRAMING_NAMES = frozenset({b"content-length", b"transfer-encoding", b"expect"})


def environ_key(raw_name: bytes) -> str | None:
    """Name the environ variable of one request header.

    Args:
        raw_name: The field name, in whatever case the server gave it.

    Returns:
        The key, or None for a header that no application may see: names that
        are no tokens or hold an underscore, and ``Proxy``, which as
        ``HTTP_PROXY`` would redirect the application's own requests ("httpoxy").

    >>> environ_key(b"X-Forwarded-For"), environ_key(b"content-type")
    ('HTTP_X_FORWARDED_FOR', 'CONTENT_TYPE')
    >>> environ_key(b"x_forwarded_for") is None
    True
    """
    if not _NAME_TOKEN.fullmatch(raw_name):
        return None
    name = raw_name.decode("ascii").upper().replace("-", "_")
    if name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        return name
    return None if name == "PROXY" else f"HTTP_{name}"


class _KeyCache(dict[bytes, str | None]):
    def __missing__(self, raw_name: bytes) -> str | None:
        key = environ_key(raw_name)
        if len(self) < CACHED_NAMES and len(raw_name) <= CACHED_NAME_BYTES:
            self[raw_name] = key
        return key


_KEYS = _KeyCache()


def native(text: str) -> str:
    """Turn decoded text into a native string: its bytes, one character each.

    Lone surrogates come from servers that decode with ``surrogateescape``; they
    give their byte back, or a question mark where no byte was meant.

    >>> native("/café").encode("latin-1") == "/café".encode("utf-8")
    True
    """
    if text.isascii():
        return text
    text = _NO_BYTE.sub("?", text)
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _unquoted(raw_path: bytes) -> str:
    return unquote_to_bytes(raw_path).decode("latin-1")


def _native_path(path: str, raw_path: bytes | None) -> str:
    """Give the bytes of a path, also those that were not UTF-8.

    A server that decodes with replacement leaves U+FFFD where such a byte was.
    The undecoded path still has it, and is believed if it decodes to ``path``.
    """
    if "\ufffd" in path and raw_path:
        raw = unquote_to_bytes(raw_path)
        if raw.decode("utf-8", "replace") == path:
            return raw.decode("latin-1")
    return native(path)


def _native_mount(root_path: str, path: str, native_path: str) -> str:
    """Give the bytes of a mount point, also those that its path has restored.

    Slashes are the same in text and bytes, so they tell how far it reaches.
    """
    if "\ufffd" in root_path and path.startswith(root_path):
        return "/".join(native_path.split("/")[: root_path.count("/") + 1])
    return native(root_path)


def split_path(
    root_path: str, path: str, raw_path: bytes | None = None
) -> tuple[str, str]:
    """Divide a request path into ``SCRIPT_NAME`` and ``PATH_INFO``.

    Servers differ in whether ``path`` contains ``root_path``: uvicorn and
    Starlette's ``Mount`` put it there, Hypercorn, Granian and Daphne hand the
    path on as it came, which behind a proxy that strips the prefix has none.
    So the mount is cut off where it is found, and only where a segment ends.
    What lies outside the mount is left alone; to refuse it is the
    application's business.

    Args:
        root_path: The mount point as a native string, with or without slashes
            at its end.
        path: The request path as a native string.
        raw_path: What the client sent, undecoded. It settles the one case that
            is ambiguous: a path that starts with the mount point although the
            mount was already cut off.

    Returns:
        Both halves. Only the second can lack a leading slash, and only if it
        is empty or was no path (``*``).

    >>> split_path("/api", "/api/users")
    ('/api', '/users')
    >>> split_path("/api", "/users")
    ('/api', '/users')
    >>> split_path("/api", "/apiary")
    ('/api', '/apiary')
    >>> split_path("/api", "/api")
    ('/api', '')
    """
    mount = root_path.rstrip("/")
    script_name = mount if not mount or mount.startswith("/") else f"/{mount}"
    # A server that puts its root path of "/api/" before the path "/users" makes
    # "/api//users" of them.
    prefix = root_path if path.startswith(f"{root_path}/") else mount
    rest = path[len(prefix) :]
    if not path.startswith(prefix) or (rest and not rest.startswith("/")):
        return script_name, path
    if raw_path and prefix and _unquoted(raw_path) == prefix + path:
        return script_name, path
    return script_name, rest


def parse_host(host: str) -> tuple[str, str]:
    """Divide a Host header's value into name and port, each empty if not given.

    >>> parse_host("www.example.org:8443"), parse_host("[::1]"), parse_host("::")
    (('www.example.org', '8443'), ('[::1]', ''), ('', ''))
    """
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^:/?#@\[\]\s]+)(?::([0-9]*))?", host)
    return (match[1], match[2] or "") if match else ("", "")


@lru_cache(CACHED_ADDRESSES)
def _address(name: str, port: object) -> tuple[str, str] | None:
    """Write a server's name and port; None where they are the path of a socket."""
    digits = str(port)
    if not name or "/" in name or not digits.isdecimal() or digits == "0":
        return None
    if ":" in name and name[0] != "[":
        name = f"[{name}]"  # RFC 3875 4.1.14
    return name, digits


def _server(
    server: Iterable[Any] | None, scheme: str, host: str | None
) -> tuple[str, str]:
    """Find ``SERVER_NAME`` and ``SERVER_PORT``, which may never be empty.

    Behind a Unix socket, or where the server does not say, the Host header
    knows best; without one it is the scheme's default port on localhost.
    """
    if server and (address := _address(*server)):
        return address
    name, port = parse_host(host or "")
    return name or "localhost", port or ("443" if scheme == "https" else "80")


def parse_content_length(value: str) -> str:
    """Check a request's Content-Length; repeats come joined by commas.

    Returns:
        The digits.

    Raises:
        RequestRefused: It is no number, or the repeats disagree. Two parties
            that believe different ones split the same bytes into different
            requests (RFC 9112 11.2), so the request is answered 400.

    >>> parse_content_length("5, 5")
    '5'
    """
    values = {item.strip(" \t") for item in value.split(",")}
    length = values.pop()
    if values:
        raise RequestRefused(
            "400 Bad Request", "The Content-Length headers contradict each other."
        )
    if not (
        length.isascii() and length.isdigit() and len(length) <= _MAX_LENGTH_DIGITS
    ):
        raise RequestRefused(
            "400 Bad Request", "The Content-Length header is not a number of bytes."
        )
    return length


def find_framing(headers: Iterable[tuple[bytes, bytes]]) -> Framing:
    """Find out what the headers of a request say of its body.

    Raises:
        RequestRefused: As `parse_content_length` does.
    """
    found: list[tuple[bytes, str]] = []
    for name, value in headers:
        if name in _FRAMING_NAMES:
            found.append((name, value.decode("latin-1")))
    if not found:
        return UNFRAMED
    lengths = [value for name, value in found if name == b"content-length"]
    is_coded = any(name == b"transfer-encoding" for name, _ in found)
    return Framing(
        # The coding delimits the body; a length beside it is a lie or a smuggling
        # attempt (RFC 9112 6.3).
        int(parse_content_length(",".join(lengths)))
        if lengths and not is_coded
        else None,
        is_coded,
        any(
            name == b"expect" and value.lower() == "100-continue"
            for name, value in found
        ),
    )


def _join_repeated(key: str, values: list[str], limit: int | None) -> str:
    # HTTP/2 clients send each cookie in a field of its own (RFC 9113 8.2.3), so
    # a browser with many cookies is no abuse and is not counted.
    if key == "HTTP_COOKIE":
        return "; ".join(values)
    if limit is not None and len(values) > limit:
        raise RequestRefused(
            "431 Request Header Fields Too Large",
            f"A header is repeated {len(values)} times; at most {limit} are accepted.",
        )
    # Neither of these is a list, so a comma would corrupt it. The first Host is
    # the one that a proxy in front has routed by.
    if key == "HTTP_HOST":
        return values[0]
    if key == "CONTENT_TYPE":
        return values[-1]
    return ",".join(values)


def _add_headers(
    environ: dict[str, Any], headers: Iterable[Iterable[bytes]], limit: int | None
) -> None:
    repeated: dict[str, list[str]] = {}
    for raw_name, raw_value in headers:
        key = _KEYS[raw_name]
        if key is None:
            continue
        value = raw_value.decode("latin-1")
        # isprintable() is quick and true for nearly all values.
        if not value.isprintable() and _VALUE_BREAKS.search(value):
            raise RequestRefused(
                "400 Bad Request", "A header's value holds a line break or a NUL."
            )
        if key not in environ:
            environ[key] = value
        elif key in repeated:
            repeated[key].append(value)
        else:
            repeated[key] = [environ[key], value]
    for key, values in repeated.items():
        environ[key] = _join_repeated(key, values, limit)
    length = environ.get("CONTENT_LENGTH")
    if length is not None:
        if "HTTP_TRANSFER_ENCODING" in environ:
            del environ["CONTENT_LENGTH"]  # see `find_framing`
        else:
            environ["CONTENT_LENGTH"] = parse_content_length(length)


def _add_tls(environ: dict[str, Any], tls: Mapping[str, Any]) -> None:
    """Name the TLS facts that the server knows as mod_ssl does."""
    version = _TLS_VERSIONS.get(tls.get("tls_version") or 0)
    if version:
        environ["SSL_PROTOCOL"] = version
    error = tls.get("client_cert_error")
    chain = list(tls.get("client_cert_chain") or ())
    if error:
        environ["SSL_CLIENT_VERIFY"] = native(f"FAILED:{error}")
    elif chain:
        environ["SSL_CLIENT_VERIFY"] = "SUCCESS"
        environ["SSL_CLIENT_CERT"] = native(chain[0])
        if tls.get("client_cert_name"):
            environ["SSL_CLIENT_S_DN"] = native(tls["client_cert_name"])


def build_environ(
    scope: Scope, base: Mapping[str, Any], duplicate_header_limit: int | None = None
) -> dict[str, Any]:
    """Make the environ of one request, all but its streams.

    Args:
        scope: An ASGI ``http`` scope. It is not changed. Its scheme may be that of a
            WebSocket.
        base: Variables that are the same for every request.
        duplicate_header_limit: How often one header may be repeated, cookies
            excepted; None for any number.

    Returns:
        A new dict. ``wsgi.input`` and ``wsgi.errors`` are the caller's to add.

    Raises:
        RequestRefused: A header that would mislead the application: contradictory
            lengths, line breaks, too many repeats. Nothing has been sent.

    >>> scope = {"type": "http", "http_version": "1.1", "method": "GET",
    ...          "path": "/a b", "query_string": b"x=%20", "headers": []}
    >>> environ = build_environ(scope, {})
    >>> environ["PATH_INFO"], environ["QUERY_STRING"], environ["REQUEST_URI"]
    ('/a b', 'x=%20', '/a%20b?x=%20')
    """
    environ = dict(base)
    _add_headers(environ, scope["headers"], duplicate_header_limit)

    get = scope.get
    path = scope["path"]
    raw_path = get("raw_path")
    path_info = path if path.isascii() else _native_path(path, raw_path)
    uri = (
        raw_path.decode("latin-1")
        if raw_path
        else quote_from_bytes(path_info.encode("latin-1"), safe=_PATH_SAFE)
    )
    raw_query = get("query_string")
    if raw_query:
        environ["QUERY_STRING"] = query = raw_query.decode("latin-1")
        uri = f"{uri}?{query}"
    else:
        environ["QUERY_STRING"] = ""
    environ["REQUEST_URI"] = environ["RAW_URI"] = uri
    root_path = get("root_path")
    if root_path:
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = split_path(
            _native_mount(root_path, path, path_info), path_info, raw_path
        )
    else:
        environ["SCRIPT_NAME"] = ""
        environ["PATH_INFO"] = path_info

    environ["REQUEST_METHOD"] = scope["method"]
    version = scope["http_version"]
    # ASGI says "2" where CGI has "2.0" (RFC 3875 4.1.16), and there are applications
    # that take the version apart, as CherryPy does.
    dotted = version if "." in version else f"{version}.0"
    environ["SERVER_PROTOCOL"] = f"HTTP/{dotted}"
    scheme = get("scheme") or "http"
    environ["wsgi.url_scheme"] = scheme = _WEB_SCHEMES.get(scheme, scheme)
    if scheme == "https":
        environ["HTTPS"] = "on"
    environ["SERVER_NAME"], environ["SERVER_PORT"] = _server(
        get("server"), scheme, environ.get("HTTP_HOST")
    )
    client = get("client")
    address = None
    if client:
        address, port = client
        if address and port is not None:
            environ["REMOTE_PORT"] = str(port)
    # There must always be an address (RFC 3875 4.1.8), and applications rely on it.
    # It is empty where there is none, as under gunicorn: on a Unix socket.
    environ["REMOTE_ADDR"] = environ["REMOTE_HOST"] = address or ""
    extensions = get("extensions")
    if extensions and extensions.get("tls"):
        _add_tls(environ, extensions["tls"])
    environ["asgi.scope"] = ScopeView(scope)
    return environ
