"""Scope to environ: one table for each rule, and properties over arbitrary bytes."""

import copy
import io
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes
from wsgiref import validate

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wsgi_asgi import _environ
from wsgi_asgi._environ import ScopeView, build_environ
from wsgi_asgi._errors import RequestRefused

ABSENT = object()

# What an adapter adds to every environ, as far as PEP 3333 wants it.
BASE: dict[str, Any] = {
    "SERVER_SOFTWARE": "wsgi-asgi",
    "wsgi.version": (1, 0),
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "wsgi.input_terminated": True,
}

# No clock and no chance: the same examples in each run.
PROFILE = settings(derandomize=True, deadline=None, max_examples=300)


def make_scope(**changes: Any) -> dict[str, Any]:
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": None,
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"example.org")],
        "client": ("192.0.2.7", 40000),
        "server": ("203.0.113.5", 8000),
    } | changes
    return {key: value for key, value in scope.items() if value is not ABSENT}


def environ_of(
    *headers: tuple[bytes, bytes], limit: int | None = None, **changes: Any
) -> dict[str, Any]:
    if headers:
        changes["headers"] = list(headers)
    return build_environ(make_scope(**changes), BASE, limit)


def cases(table: Mapping[str, tuple[Any, ...]]) -> list[Any]:
    """Make parametrised cases of rows by their ids."""
    return [pytest.param(*row, id=name) for name, row in table.items()]


def picked(environ: Mapping[str, Any], *keys: str) -> tuple[Any, ...]:
    return tuple(environ.get(key, ABSENT) for key in keys)


def latin1(text: str) -> str:
    """Say a text as its UTF-8 bytes, one character each (PEP 3333, Unicode Issues)."""
    return text.encode().decode("latin-1")


def check_native(environ: Mapping[str, Any]) -> None:
    """Check that all variables but the server's own are native strings."""
    for key in environ.keys() - BASE.keys() - {"asgi.scope"}:
        assert type(environ[key]) is str, key
        key.encode("latin-1")
        environ[key].encode("latin-1")


def check_by_wsgiref(environ: Mapping[str, Any]) -> None:
    streams = {"wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO()}
    validate.check_environ({**environ, **streams})  # type: ignore[attr-defined]  # typeshed knows the validator alone


# The whole of it.


def test_environ_of_any_request_is_a_plain_dict_with_all_required_keys() -> None:
    environ = environ_of()
    assert type(environ) is dict
    assert environ.keys() >= {
        "REQUEST_METHOD",
        "SCRIPT_NAME",
        "PATH_INFO",
        "QUERY_STRING",
        "REMOTE_ADDR",
        "SERVER_NAME",
        "SERVER_PORT",
        "SERVER_PROTOCOL",
        "wsgi.url_scheme",
    }
    assert environ.items() >= BASE.items()


FULL: dict[str, Any] = {
    "method": "POST",
    "scheme": "https",
    "path": "/m/é",
    "raw_path": b"/m/%C3%A9",
    "root_path": "/m",
    "query_string": b"a=1",
    "headers": [
        (b"host", b"example.org"),
        (b"content-length", b"5"),
        (b"content-type", b"text/plain"),
        (b"cookie", b"a=1"),
    ],
    "extensions": {
        "tls": {
            "tls_version": 0x0304,
            "client_cert_chain": ["-----BEGIN CERTIFICATE-----\n"],
            "client_cert_name": "CN=Zoë",
            "client_cert_error": None,
        }
    },
}
BARE: dict[str, Any] = dict.fromkeys(
    ["scheme", "raw_path", "root_path", "client", "server"], ABSENT
) | {"headers": []}

SHAPES = cases(
    {
        "plain get": ({},),
        "all that a scope may hold": (FULL,),
        "mandatory keys only": (BARE,),
        "path is the mount": ({"path": "/m", "root_path": "/m"},),
        "mount is a slash": ({"root_path": "/"},),
        "unix socket": ({"server": ["/run/app", None], "client": None},),
        "http 2": ({"http_version": "2"},),
    }
)


@pytest.mark.parametrize("changes", SHAPES)
def test_environ_of_any_request_passes_wsgiref_validate(
    changes: dict[str, Any],
) -> None:
    environ = environ_of(**changes)
    check_by_wsgiref(environ)
    check_native(environ)
    # wsgiref only asks for one of them to be there (PEP 3333, environ Variables).
    assert environ["SCRIPT_NAME"] or environ["PATH_INFO"]


@pytest.mark.parametrize("changes", SHAPES)
def test_environ_keys_are_upper_case_or_lower_case_with_dots(
    changes: dict[str, Any],
) -> None:
    for key in environ_of(**changes):
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*|[a-z_]+(\.[a-z_]+)+", key), key


@pytest.mark.parametrize("changes", SHAPES)
def test_scope_is_unchanged_by_building_and_by_the_application(
    changes: dict[str, Any],
) -> None:
    scope = make_scope(**changes)
    before = copy.deepcopy(scope)
    environ = build_environ(scope, BASE)
    environ.update(PATH_INFO="/elsewhere", REMOTE_ADDR="")
    environ.clear()
    assert scope == before
    # Each request has an environ of its own.
    assert build_environ(scope, BASE) == build_environ(before, BASE)
    assert BASE["SERVER_SOFTWARE"] == "wsgi-asgi"


def test_operating_system_variables_have_no_influence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = environ_of(**FULL)
    for key in (*before, "REMOTE_USER", "AUTH_TYPE", "HTTPS", "HTTP_PROXY"):
        monkeypatch.setenv(key, "leaked")
    assert environ_of(**FULL) == before


@pytest.mark.parametrize("changes", SHAPES)
@pytest.mark.parametrize(
    "key", ["REMOTE_USER", "AUTH_TYPE", "PATH_TRANSLATED", "wsgi.websocket"]
)
def test_variable_that_the_scope_does_not_tell_is_not_invented(
    key: str, changes: dict[str, Any]
) -> None:
    assert key not in environ_of(**changes)


# Method, protocol, scheme.


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "M-SEARCH", "Purge"])
def test_request_method_of_any_case_is_passed_on(method: str) -> None:
    assert environ_of(method=method)["REQUEST_METHOD"] == method


@pytest.mark.parametrize(
    ("version", "protocol"),
    [
        ("1.0", "HTTP/1.0"),
        ("1.1", "HTTP/1.1"),
        # ASGI has the short form, and RFC 3875 4.1.16 the one with a dot.
        ("2", "HTTP/2.0"),
        ("2.0", "HTTP/2.0"),
        ("3", "HTTP/3.0"),
    ],
)
def test_server_protocol_names_the_http_version_with_a_dot(
    version: str, protocol: str
) -> None:
    assert environ_of(http_version=version)["SERVER_PROTOCOL"] == protocol


@pytest.mark.parametrize(
    ("scheme", "url_scheme", "https"),
    cases(
        {
            "http": ("http", "http", ABSENT),
            "https": ("https", "https", "on"),
            "absent": (ABSENT, "http", ABSENT),
            "empty": ("", "http", ABSENT),
            "ws by a proxy": ("ws", "http", ABSENT),
            "wss by a proxy": ("wss", "https", "on"),
        }
    ),
)
def test_scheme_becomes_url_scheme_and_https(
    scheme: object, url_scheme: str, https: object
) -> None:
    environ = environ_of(scheme=scheme)
    assert picked(environ, "wsgi.url_scheme", "HTTPS") == (url_scheme, https)


# Mount and path.


@pytest.mark.parametrize(
    ("root_path", "path", "script_name", "path_info"),
    cases(
        {
            "no mount": ("", "/foo/bar", "", "/foo/bar"),
            "mount is none": (None, "/foo/bar", "", "/foo/bar"),
            "mount is absent": (ABSENT, "/foo/bar", "", "/foo/bar"),
            "mount in path": ("/base", "/base/foo/", "/base", "/foo/"),
            "mount of two segments": ("/a/b", "/a/b/c", "/a/b", "/c"),
            "mount stripped by proxy": ("/base", "/foo", "/base", "/foo"),
            "only a slash left by proxy": ("/base", "/", "/base", "/"),
            "mount ends in a segment": ("/base", "/basement/x", "/base", "/basement/x"),
            "path is the mount": ("/base", "/base", "/base", ""),
            "path is mount and slash": ("/base", "/base/", "/base", "/"),
            "doubled slash is kept": ("/base", "/base//x", "/base", "//x"),
            "slash after mount": ("/base/", "/base/foo", "/base", "/foo"),
            "uvicorn's doubled": ("/base/", "/base//foo", "/base", "/foo"),
            "uvicorn's doubled alone": ("/base/", "/base//", "/base", "/"),
            "slash lacking in path": ("/base/", "/base", "/base", ""),
            "path is mount with slash": ("/base/", "/base/", "/base", "/"),
            "slash, segment": ("/base/", "/basement", "/base", "/basement"),
            "mount is a slash": ("/", "/foo", "", "/foo"),
            "mount and path are a slash": ("/", "/", "", "/"),
            "cut once": ("/api", "/api/api/x", "/api", "/api/x"),
            "other case": ("/Base", "/base/x", "/Base", "/base/x"),
            "decoded already": ("/base", "/a%2Fb c", "/base", "/a%2Fb c"),
            "asterisk form": ("", "*", "", "*"),
            "asterisk form below a mount": ("/base", "*", "/base", "*"),
            "path beyond ascii": ("", "/café/中文", "", latin1("/café/中文")),
            "mount beyond ascii": ("/中国", "/中国/x", latin1("/中国"), "/x"),
            "segment beyond ascii": ("/中", "/中国", latin1("/中"), latin1("/中国")),
            "escaped byte": ("", "/caf\udce9", "", "/caf\xe9"),
            "escaped byte in mount": ("/\udce9", "/\udce9/x", "/\xe9", "/x"),
        }
    ),
)
def test_root_path_and_path_become_script_name_and_path_info(
    root_path: object, path: str, script_name: str, path_info: str
) -> None:
    environ = environ_of(root_path=root_path, path=path)
    assert picked(environ, "SCRIPT_NAME", "PATH_INFO") == (script_name, path_info)


@pytest.mark.parametrize(
    ("root_path", "path", "raw_path", "script_name", "path_info"),
    cases(
        {
            "mount was cut off": ("/api", "/api/x", b"/api/api/x", "/api", "/api/x"),
            "mount was not cut off": ("/api", "/api/x", b"/api/x", "/api", "/x"),
            "cut, with slash": ("/api/", "/api/x", b"/api/api/x", "/api", "/api/x"),
            "cut, beyond ascii": (
                "/ü",
                "/ü/x",
                b"/%C3%BC/%C3%BC/x",
                latin1("/ü"),
                latin1("/ü/x"),
            ),
            "encoded slash": ("", "/a/b", b"/a%2Fb", "", "/a/b"),
            "empty raw path": ("", "/a", b"", "", "/a"),
            "byte restored": ("", "/caf\ufffd/x", b"/caf%E9/x", "", "/caf\xe9/x"),
            "unquoted byte restored": ("", "/caf\ufffd", b"/caf\xe9", "", "/caf\xe9"),
            "byte after a mount": (
                "/base",
                "/base/\ufffd",
                b"/base/%FF",
                "/base",
                "/\xff",
            ),
            "byte in a mount": (
                "/caf\ufffd",
                "/caf\ufffd/x",
                b"/caf%E9/x",
                "/caf\xe9",
                "/x",
            ),
            "byte lost in a mount": (
                "/caf\ufffd",
                "/caf\ufffd/x",
                None,
                latin1("/caf\ufffd"),
                "/x",
            ),
            "byte lost in a mount that was cut off": (
                "/caf\ufffd",
                "/x",
                None,
                latin1("/caf\ufffd"),
                "/x",
            ),
            "another path": ("", "/\ufffd", b"/other%E9", "", latin1("/\ufffd")),
            "client's own U+FFFD": (
                "",
                "/\ufffd",
                b"/%EF%BF%BD",
                "",
                latin1("/\ufffd"),
            ),
            "no raw path": ("", "/\ufffd", None, "", latin1("/\ufffd")),
        }
    ),
)
def test_raw_path_settles_mount_and_lost_bytes(
    root_path: str, path: str, raw_path: bytes | None, script_name: str, path_info: str
) -> None:
    environ = environ_of(root_path=root_path, path=path, raw_path=raw_path)
    assert picked(environ, "SCRIPT_NAME", "PATH_INFO") == (script_name, path_info)


@pytest.mark.parametrize(
    ("path", "raw_path", "query", "uri"),
    cases(
        {
            "raw": ("/a/b", b"/a%2Fb", b"x=1%202", "/a%2Fb?x=1%202"),
            "raw without query": ("/a/b", b"/a%2Fb", b"", "/a%2Fb"),
            "raw high bytes": ("/\ufffd", b"/\xe9", b"\xe9", "/\xe9?\xe9"),
            "quoted again": ("/a b%", None, b"x=1", "/a%20b%25?x=1"),
            "raw path absent": ("/a b", ABSENT, b"", "/a%20b"),
            "quoted beyond ascii": ("/é", None, b"", "/%C3%A9"),
            "no needless": ("/@a:b;c=1,(~)", None, b"", "/@a:b;c=1,(~)"),
            "asterisk form": ("*", None, b"", "*"),
        }
    ),
)
def test_request_uri_is_what_the_client_sent(
    path: str, raw_path: object, query: bytes, uri: str
) -> None:
    environ = environ_of(path=path, raw_path=raw_path, query_string=query)
    assert picked(environ, "REQUEST_URI", "RAW_URI") == (uri, uri)


@pytest.mark.parametrize(
    ("raw_query", "query"),
    cases(
        {
            "still encoded": (b"a=%20b&c=%C3%A9+d", "a=%20b&c=%C3%A9+d"),
            "high bytes": (b"q=\xe4\xb8\xad", "q=\xe4\xb8\xad"),
            "empty": (b"", ""),
            "none": (None, ""),
            "absent": (ABSENT, ""),
        }
    ),
)
def test_query_string_is_the_query_as_text(raw_query: object, query: str) -> None:
    assert environ_of(query_string=raw_query)["QUERY_STRING"] == query


# Server and client.


@pytest.mark.parametrize(
    ("server", "scheme", "host", "name", "port"),
    cases(
        {
            "tuple": (("192.0.2.9", 443), "http", b"h:1", "192.0.2.9", "443"),
            "list": (["192.0.2.9", 81], "http", b"h:1", "192.0.2.9", "81"),
            "port as text": (["192.0.2.9", "81"], "http", b"h:1", "192.0.2.9", "81"),
            "ipv6": (("2001:db8::1", 81), "http", b"h:1", "[2001:db8::1]", "81"),
            "ipv6 in brackets": (("[::1]", 81), "http", b"h:1", "[::1]", "81"),
            "none": (None, "http", None, "localhost", "80"),
            "none and https": (None, "https", None, "localhost", "443"),
            "absent": (ABSENT, "http", None, "localhost", "80"),
            "host alone": (None, "http", b"h.a", "h.a", "80"),
            "host's port empty": (None, "https", b"h.a:", "h.a", "443"),
            "ipv6 host": (None, "http", b"[::1]:8443", "[::1]", "8443"),
            "bad host": (None, "http", b"no host!/:x", "localhost", "80"),
            "port of other digits": (None, "http", "h:٣".encode(), "localhost", "80"),
            "socket": (("/run/a", None), "https", None, "localhost", "443"),
            "socket and host": (("/run/a", None), "http", b"h.a:81", "h.a", "81"),
            # Seen on real servers that listen on a Unix socket: Granian's, and
            # Gunicorn's, which takes the first two letters of the path.
            "port of zero": (("/run/a", "0"), "http", b"h.a:81", "h.a", "81"),
            "absolute path": (("/", "r"), "http", b"h.a:81", "h.a", "81"),
            "relative path": (("a", "p"), "http", b"h.a:81", "h.a", "81"),
        }
    ),
)
def test_server_gives_name_and_port_that_are_never_empty(
    server: object, scheme: str, host: bytes | None, name: str, port: str
) -> None:
    headers = [] if host is None else [(b"host", host)]
    environ = environ_of(server=server, scheme=scheme, headers=headers)
    assert picked(environ, "SERVER_NAME", "SERVER_PORT") == (name, port)


@pytest.mark.parametrize(
    ("client", "address", "port"),
    cases(
        {
            "tuple": (("192.0.2.7", 4321), "192.0.2.7", "4321"),
            "list": (["192.0.2.7", 4321], "192.0.2.7", "4321"),
            "port as text": (["192.0.2.7", "4321"], "192.0.2.7", "4321"),
            "ipv6 has no brackets": (("2001:db8::7", 1), "2001:db8::7", "1"),
            "no port": (("192.0.2.7", None), "192.0.2.7", ABSENT),
            # RFC 3875 4.1.8 has an address as a must, gunicorn leaves it empty then.
            "none": (None, "", ABSENT),
            "absent": (ABSENT, "", ABSENT),
            "granian's unix socket": (("", "0"), "", ABSENT),
            "two times none": ((None, None), "", ABSENT),
        }
    ),
)
def test_client_gives_remote_variables_and_none_an_empty_address(
    client: object, address: str, port: object
) -> None:
    environ = environ_of(client=client)
    assert picked(environ, "REMOTE_ADDR", "REMOTE_HOST", "REMOTE_PORT") == (
        address,
        address,
        port,
    )


@pytest.mark.parametrize(
    ("tls", "variables"),
    cases(
        {
            "1.2": ({"tls_version": 0x0303}, {"SSL_PROTOCOL": "TLSv1.2"}),
            "1.3": ({"tls_version": 0x0304}, {"SSL_PROTOCOL": "TLSv1.3"}),
            "version without a name": ({"tls_version": 0x7F17}, {}),
            "nothing known": (
                dict.fromkeys(
                    [
                        "tls_version",
                        "server_cert",
                        "client_cert_chain",
                        "client_cert_name",
                        "client_cert_error",
                        "cipher_suite",
                    ]
                ),
                {},
            ),
            "no certificate": ({"client_cert_chain": ()}, {}),
            "name without certificate": ({"client_cert_name": "CN=Mallory"}, {}),
            "certificate": (
                {
                    "client_cert_chain": iter(["PEM", "CA"]),
                    "client_cert_name": "CN=Zoë",
                },
                {
                    "SSL_CLIENT_VERIFY": "SUCCESS",
                    "SSL_CLIENT_CERT": "PEM",
                    "SSL_CLIENT_S_DN": latin1("CN=Zoë"),
                },
            ),
            "certificate without name": (
                {"client_cert_chain": ["PEM"], "client_cert_name": None},
                {"SSL_CLIENT_VERIFY": "SUCCESS", "SSL_CLIENT_CERT": "PEM"},
            ),
            "bad certificate": (
                {
                    "client_cert_chain": ["PEM"],
                    "client_cert_name": "CN=Mallory",
                    "client_cert_error": "expired",
                },
                {"SSL_CLIENT_VERIFY": "FAILED:expired"},
            ),
            "error beyond latin-1": (
                {"client_cert_error": "期限切れ"},
                {"SSL_CLIENT_VERIFY": latin1("FAILED:期限切れ")},
            ),
        }
    ),
)
def test_tls_extension_gives_what_is_known_in_names_of_mod_ssl(
    tls: dict[str, Any], variables: dict[str, str]
) -> None:
    environ = environ_of(extensions={"tls": tls})
    assert {k: v for k, v in environ.items() if k.startswith("SSL_")} == variables


@pytest.mark.parametrize(
    "extensions", [ABSENT, None, {}, {"tls": None}, {"tls": {}}], ids=repr
)
def test_tls_extension_absent_gives_nothing(extensions: object) -> None:
    environ = environ_of(extensions=extensions)
    assert not [key for key in environ if key.startswith("SSL_")]


# Headers.

NO_TOKENS = b"x foo||x:y|x\nfoo|(x)|x\0y|x-\xff|x-\xb5|\xc3\xbc".split(b"|")


def header_variables(environ: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in environ.items() if k.startswith(("HTTP_", "CONTENT_"))}


@pytest.mark.parametrize(
    ("headers", "variables"),
    cases(
        {
            "none are invented": ([], {}),
            "content type and length have no prefix": (
                [(b"content-type", b"application/json"), (b"content-length", b"5")],
                {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": "5"},
            ),
            "any case": (
                [
                    (b"Content-Type", b"a/b"),
                    (b"CONTENT-LENGTH", b"5"),
                    (b"X-fOO", b"1"),
                ],
                {"CONTENT_TYPE": "a/b", "CONTENT_LENGTH": "5", "HTTP_X_FOO": "1"},
            ),
            "other names": (
                [(b"x-forwarded-for", b"192.0.2.1"), (b"authorization", b"Basic YTpi")],
                {
                    "HTTP_X_FORWARDED_FOR": "192.0.2.1",
                    "HTTP_AUTHORIZATION": "Basic YTpi",
                },
            ),
            "values are latin-1": (
                [(b"x-a", b"caf\xe9 \xe4\xb8\xad\t\x01\xff")],
                {"HTTP_X_A": "caf\xe9 \xe4\xb8\xad\t\x01\xff"},
            ),
            "empty value": ([(b"x-empty", b"")], {"HTTP_X_EMPTY": ""}),
            "connection headers are passed on": (
                [(b"transfer-encoding", b"chunked"), (b"expect", b"100-continue")]
                + [(b"connection", b"upgrade")],
                {
                    "HTTP_TRANSFER_ENCODING": "chunked",
                    "HTTP_EXPECT": "100-continue",
                    "HTTP_CONNECTION": "upgrade",
                },
            ),
            # RFC 9110 5.3, and for cookies RFC 9113 8.2.3.
            "repeats are joined in order": (
                [(b"x-a", b"1"), (b"X-A", b"2"), (b"x-b", b""), (b"x-a", b"3")],
                {"HTTP_X_A": "1,2,3", "HTTP_X_B": ""},
            ),
            "cookies are joined by semicolons": (
                [(b"cookie", b"a=1"), (b"Cookie", b"b=2")],
                {"HTTP_COOKIE": "a=1; b=2"},
            ),
            "the first host": (
                [(b"host", b"good.example"), (b"Host", b"evil.example")],
                {"HTTP_HOST": "good.example"},
            ),
            "the last content type": (
                [(b"content-type", b"text/plain"), (b"content-type", b"text/html")],
                {"CONTENT_TYPE": "text/html"},
            ),
            # RFC 9110 17.10 and 5.6.2.
            "underscores after hyphens": (
                [(b"x-auth-user", b"good"), (b"x_auth_user", b"evil")],
                {"HTTP_X_AUTH_USER": "good"},
            ),
            "underscores before hyphens": (
                [(b"x_auth_user", b"evil"), (b"x-auth-user", b"good")],
                {"HTTP_X_AUTH_USER": "good"},
            ),
            "underscores alone": ([(b"x_auth_user", b"evil")], {}),
            "underscores in content headers": (
                [(b"content-length", b"2"), (b"content_length", b"99")]
                + [(b"content_type", b"text/html")],
                {"CONTENT_LENGTH": "2"},
            ),
            "proxy": ([(b"proxy", b"http://evil"), (b"Proxy", b"http://evil")], {}),
            "names that are no tokens": ([(name, b"1") for name in NO_TOKENS], {}),
            # RFC 9112 6.3: the transfer coding delimits the body.
            "length beside transfer coding": (
                [(b"transfer-encoding", b"chunked"), (b"content-length", b"3")],
                {"HTTP_TRANSFER_ENCODING": "chunked"},
            ),
            "equal lengths": (
                [(b"content-length", b"5"), (b"content-length", b" 5, 5")],
                {"CONTENT_LENGTH": "5"},
            ),
            "blanks": ([(b"content-length", b" 5\t")], {"CONTENT_LENGTH": "5"}),
        }
    ),
)
def test_headers_become_variables(
    headers: list[tuple[bytes, bytes]], variables: dict[str, str]
) -> None:
    assert header_variables(environ_of(headers=headers)) == variables


def test_headers_may_be_a_one_shot_iterable_of_lists() -> None:
    headers = iter([[b"x-a", b"1"], [b"host", b"example.org"]])
    assert header_variables(environ_of(headers=headers)) == {
        "HTTP_X_A": "1",
        "HTTP_HOST": "example.org",
    }


@pytest.mark.parametrize(
    "headers",
    [
        # RFC 9110 8.6 and RFC 9112 6.3.
        *(
            pytest.param([(b"content-length", value)], id=f"length {name}")
            for name, value in {
                "of letters": b"abc",
                "below zero": b"-5",
                "with plus": b"+5",
                "with underscore": b"5_0",
                "empty": b"",
                "in hex": b"0x5",
                "with fraction": b"5.0",
                "with blank inside": b"5 5",
                "of high digits": b"\xb2",
                "too long to read": b"9" * 5000,
                "list that differs": b"5, 6",
                "list with a gap": b"5,,5",
            }.items()
        ),
        pytest.param(
            [(b"content-length", b"5"), (b"Content-Length", b"6")], id="two lengths"
        ),
        # RFC 9110 5.5.
        *(
            pytest.param([(name, value)], id=f"{what} in {name.decode()}")
            for name in (b"x-a", b"host", b"cookie", b"content-type")
            for what, value in {
                "line break": b"a\r\nX-Evil: 1",
                "line feed": b"a\nb",
                "carriage return": b"a\rb",
                "nul": b"a\0b",
                "line feed at the end": b"a\n",
            }.items()
        ),
        pytest.param([(b"x-a", b"1"), (b"x-a", b"\n")], id="line feed in a repeat"),
    ],
)
def test_header_that_would_mislead_is_answered_400(
    headers: list[tuple[bytes, bytes]],
) -> None:
    with pytest.raises(RequestRefused) as caught:
        environ_of(headers=headers)
    assert caught.value.status == "400 Bad Request"
    # It goes into a response, so it must not bring the client's own text there.
    assert re.fullmatch(r"[ -~]+\.", caught.value.reason)


def test_length_that_is_bad_beside_transfer_coding_is_ignored() -> None:
    environ = environ_of((b"content-length", b"x"), (b"transfer-encoding", b"chunked"))
    assert "CONTENT_LENGTH" not in environ


@pytest.mark.parametrize("name", [b"x-a", b"host", b"content-type", b"content-length"])
def test_repeats_up_to_the_limit_are_accepted_and_beyond_answered_431(
    name: bytes,
) -> None:
    header = (name, b"7")
    environ_of(*[header] * 100, limit=100)
    with pytest.raises(RequestRefused) as caught:
        environ_of(*[header] * 101, limit=100)
    assert caught.value.status == "431 Request Header Fields Too Large"
    assert {"100", "101"} <= set(re.findall(r"\d+", caught.value.reason))


def test_repeats_of_cookies_and_other_names_do_not_count() -> None:
    environ = environ_of(
        *[(b"cookie", b"a=1")] * 101,
        *[(b"x-%d" % number, b"1") for number in range(101)],
        limit=100,
    )
    assert environ["HTTP_COOKIE"] == "; ".join(["a=1"] * 101)


class Value(bytes):
    """A header value that can be joined with others, but not added to them."""

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return ValueText(super().decode(encoding, errors))


class ValueText(str):
    __slots__ = ()

    def _grow(self, *_: object) -> str:
        raise AssertionError("added piece by piece, which is quadratic")

    __add__ = __radd__ = __format__ = __mod__ = _grow


@pytest.mark.parametrize(
    ("name", "key", "separator"),
    cases(
        {
            "ordinary header": (b"x-a", "HTTP_X_A", ","),
            "cookie": (b"cookie", "HTTP_COOKIE", "; "),
        }
    ),
)
def test_repeats_by_the_thousands_are_joined_once(
    name: bytes, key: str, separator: str
) -> None:
    values = [b"%040d" % number for number in range(50_000)]
    environ = environ_of(*((name, Value(value)) for value in values))
    assert environ[key] == separator.join(value.decode() for value in values)


def test_names_by_the_thousands_are_not_all_remembered() -> None:
    names = [b"x-%d" % number for number in range(_environ.CACHED_NAMES + 10)]
    long_name = b"y-" + b"y" * _environ.CACHED_NAME_BYTES
    for _ in range(2):  # the second time some are remembered
        environ = environ_of((long_name, b"1"), *((name, name) for name in names))
        assert environ["HTTP_Y_" + "Y" * _environ.CACHED_NAME_BYTES] == "1"
        for name in names:
            assert environ[f"HTTP_{name.decode().upper().replace('-', '_')}"] == (
                name.decode()
            )
    assert len(_environ._KEYS) <= _environ.CACHED_NAMES
    assert long_name not in _environ._KEYS


# The scope inside the environ.


def test_asgi_scope_gives_the_very_state_of_the_server() -> None:
    state = {"db": object()}
    scope = make_scope(state=state)
    view = build_environ(scope, BASE)["asgi.scope"]
    assert view["state"] is state
    assert dict(view) == scope
    assert (len(view), list(view)) == (len(scope), list(scope))


def test_asgi_scope_cannot_be_changed_and_hides_secrets_from_debug_pages() -> None:
    scope = make_scope(headers=[(b"cookie", b"secret")], path="/é")
    view = build_environ(scope, BASE)["asgi.scope"]
    assert type(view) is ScopeView
    assert not hasattr(view, "__setitem__")
    assert not hasattr(view, "__delitem__")
    assert repr(view) == str(view) == "<ASGI scope of GET '/é'>"


# Whatever a client can send.

# Surrogates of both kinds: those that stand for a byte, and others.
ANY_TEXT = st.text(
    st.sampled_from("a/%é中\ufffd\udc80\udcff\ud800\udfff")
    | st.characters(exclude_categories=()),
    max_size=20,
)
ANY_BYTES = st.binary(max_size=40)
NAMES = st.sampled_from(
    [b"host", b"Host", b"cookie", b"content-length", b"Content-Type", b"x-a", b"X-A"]
    + [b"x_a", b"proxy", b"transfer-encoding", b"expect", b"x.y"]
)
VALUES = st.sampled_from([b"5", b"5, 5", b"6", b"", b"chunked", b"[::1]:80", b"a:b"])
HEADERS = st.lists(st.tuples(NAMES | ANY_BYTES, VALUES | ANY_BYTES), max_size=8)
# A mount is never the root itself, and ends in no slash.
MOUNTS = ANY_TEXT.map(lambda text: f"/{text.strip('/')}").filter(
    lambda text: text > "/"
)
RESTS = st.just("") | ANY_TEXT.map(lambda text: f"/{text}")


@PROFILE
@given(
    headers=HEADERS,
    raw_query=ANY_BYTES,
    raw_path=st.none() | ANY_BYTES,
    path=ANY_TEXT,
    root_path=ANY_TEXT,
    server=st.none() | st.just(("203.0.113.5", 80)),
    limit=st.none() | st.just(2),
)
def test_build_environ_of_arbitrary_bytes_gives_native_strings_or_refuses(
    headers: Iterable[tuple[bytes, bytes]], limit: int | None, **changes: Any
) -> None:
    changes["query_string"] = changes.pop("raw_query")
    scope = make_scope(headers=headers, **changes)
    before = copy.deepcopy(scope)
    with suppress(RequestRefused):
        check_native(build_environ(scope, BASE, limit))
    assert scope == before


@PROFILE
@given(headers=HEADERS, root_path=st.just("") | MOUNTS, rest=RESTS.filter(bool))
def test_build_environ_of_arbitrary_headers_passes_wsgiref_validate(
    headers: Iterable[tuple[bytes, bytes]], root_path: str, rest: str
) -> None:
    with suppress(RequestRefused):
        check_by_wsgiref(environ_of(headers=headers, root_path=root_path, path=rest))


@PROFILE
@given(value=ANY_BYTES)
def test_header_value_of_arbitrary_bytes_is_kept_or_refused(value: bytes) -> None:
    broken = any(byte in value for byte in b"\r\n\0")
    try:
        environ = environ_of((b"x-a", value))
    except RequestRefused:
        assert broken
    else:
        assert not broken
        assert environ["HTTP_X_A"].encode("latin-1") == value


@PROFILE
@given(raw=st.binary(max_size=40), quoted=st.booleans(), query=ANY_BYTES)
def test_path_info_and_uri_of_arbitrary_raw_path_are_its_bytes(
    raw: bytes, quoted: bool, query: bytes
) -> None:
    raw_path = b"/" + (quote_from_bytes(raw).encode() if quoted else raw)
    unquoted = unquote_to_bytes(raw_path)
    environ = environ_of(
        raw_path=raw_path, path=unquoted.decode("utf-8", "replace"), query_string=query
    )
    assert environ["PATH_INFO"].encode("latin-1") == unquoted
    uri = raw_path + b"?" + query if query else raw_path
    assert environ["REQUEST_URI"].encode("latin-1") == uri
    assert environ["QUERY_STRING"].encode("latin-1") == query


@PROFILE
@given(raw=ANY_BYTES)
def test_path_info_of_escaped_bytes_is_those_bytes_without_a_raw_path(
    raw: bytes,
) -> None:
    raw = b"/" + raw
    environ = environ_of(path=raw.decode("utf-8", "surrogateescape"))
    assert environ["PATH_INFO"].encode("latin-1") == raw
    assert unquote_to_bytes(environ["REQUEST_URI"]) == raw


@PROFILE
@example(mount="/\udce9", rest="/\ud800")  # one stands for a byte, one for nothing
@given(mount=MOUNTS, rest=RESTS)
def test_script_name_and_path_info_of_any_mount_make_up_the_path(
    mount: str, rest: str
) -> None:
    path = mount + rest
    environ = environ_of(root_path=mount, path=path)
    unmounted = environ_of(root_path="", path=path)
    assert environ["PATH_INFO"] == "" if not rest else environ["PATH_INFO"][0] == "/"
    assert environ["SCRIPT_NAME"] + environ["PATH_INFO"] == unmounted["PATH_INFO"]
    assert len(environ["PATH_INFO"]) >= len(rest)


@PROFILE
@given(
    mount=st.binary(min_size=1, max_size=8).filter(lambda raw: b"/" not in raw),
    rest=ANY_BYTES,
)
def test_script_name_and_path_info_of_a_mount_of_any_bytes_make_up_the_path(
    mount: bytes, rest: bytes
) -> None:
    # As a router has it that mounts below what the client chooses.
    raw_mount = b"/" + quote_from_bytes(mount, safe="").encode()
    raw_path = raw_mount + b"/" + quote_from_bytes(rest).encode()

    def decoded(raw: bytes) -> str:
        return unquote_to_bytes(raw).decode("utf-8", "replace")

    environ = environ_of(
        root_path=decoded(raw_mount), path=decoded(raw_path), raw_path=raw_path
    )
    full = unquote_to_bytes(raw_path).decode("latin-1")
    assert environ["SCRIPT_NAME"] + environ["PATH_INFO"] == full
