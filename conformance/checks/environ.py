"""The environ that the application gets."""

import copy
import io
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.validate import validator

from conformance.apps import begin, reading
from conformance.bench import Bench
from conformance.checking import NotOffered, check, expect, expect_equal, fail
from conformance.exchanges import CHUNKED, STREAMED, HttpExchange
from conformance.server import PAUSE, Script

_REQUIRED = (
    "REQUEST_METHOD",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "PATH_INFO",
    "wsgi.version",
    "wsgi.url_scheme",
    "wsgi.input",
    "wsgi.errors",
    "wsgi.multithread",
    "wsgi.multiprocess",
    "wsgi.run_once",
)

Environ = Mapping[str, Any]


def expect_variable(environ: Environ, key: str, *wanted: object) -> None:
    """Expect a variable to have one of some values."""
    if environ.get(key) not in wanted:
        seen = repr(environ[key]) if key in environ else "missing"
        fail(f"{key} is {seen}, expected {' or '.join(map(repr, wanted))}")


def expect_absent(environ: Environ, *keys: str) -> None:
    """Expect variables to be missing."""
    for key in keys:
        expect(key not in environ, f"{key} is {environ.get(key)!r}, expected none")


def expect_split(
    bench: Bench, root_path: str, path: str, *wanted: tuple[str, str], **scope: Any
) -> None:
    """Expect a root path and a path to become SCRIPT_NAME and PATH_INFO."""
    environ = bench.environ(root_path=root_path, path=path, **scope)
    seen = environ.get("SCRIPT_NAME", ""), environ.get("PATH_INFO", "")
    if seen not in wanted:
        options = " or ".join(map(repr, wanted))
        fail(
            f"root_path {root_path!r} and path {path!r} became SCRIPT_NAME and "
            f"PATH_INFO {seen!r}, expected {options}"
        )


@check("PEP3333-environ-01")
def environ_is_a_dict(bench: Bench) -> None:
    """The environ is exactly a dict."""
    environ = bench.environ()
    expect(type(environ) is dict, f"the environ is a {type(environ).__qualname__}")


@check("PEP3333-environ-02")
def required_variables(bench: Bench) -> None:
    """Every variable that WSGI requires is there, PATH_INFO included."""
    environ = bench.environ()
    missing = [key for key in _REQUIRED if key not in environ]
    expect(not missing, f"missing: {', '.join(missing)}")


@check("PEP3333-environ-03")
def native_strings(bench: Bench) -> None:
    """The value of each variable without a dot in its name is str."""
    environ = bench.environ(body=b"hello", query_string=b"a=1")
    wrong = {
        key: value
        for key, value in environ.items()
        if "." not in key and type(value) is not str
    }
    expect(not wrong, f"not str: {wrong!r}")


@contextmanager
def _noting(complaints: list[str]) -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        complaints.append(str(error))
        raise


class _Watched:
    """The validator's iterable, and what it complains of."""

    def __init__(self, body: Any, complaints: list[str]) -> None:
        self._body = body
        self._complaints = complaints

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with _noting(self._complaints):
            chunk: bytes = next(self._body)
            return chunk

    def close(self) -> None:
        """Close the validator's."""
        with _noting(self._complaints):
            self._body.close()


@check("PRACTICE-wsgiref-01")
def wsgiref_validator(bench: Bench) -> None:
    """The standard library's validator finds nothing wrong with the adapter."""
    complaints: list[str] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgi.input"].read(1024)
        environ["wsgi.errors"].flush()
        begin(start_response)
        return [b"valid"]

    def watched(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        with _noting(complaints):
            return _Watched(validator(app)(environ, start_response), complaints)

    requests: list[dict[str, Any]] = [
        {},
        {"body": b"x=1", "root_path": "/m", "path": "/m/form"},
        {"root_path": "/m", "path": "/m"},
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for options in requests:
            exchange = bench.attempt(watched, **options)
            shown = f"{exchange.scope['method']} {exchange.scope['path']}"
            expect(not complaints, f"for {shown}: {' '.join(complaints)}")
            expect(exchange.status == 200, f"for {shown}: {exchange.outcome()}")


@check("ASGI-HTTP-environ-01")
def method(bench: Bench) -> None:
    """REQUEST_METHOD is the scope's method."""
    for name in ("GET", "POST", "PATCH", "M-SEARCH"):
        expect_variable(bench.environ(method=name), "REQUEST_METHOD", name)


@check("RFC9110-method-01")
def method_case(bench: Bench) -> None:
    """A method that is not in upper case is passed on as it is."""
    expect_variable(bench.environ(method="Purge"), "REQUEST_METHOD", "Purge")


# Paths.


@check("ASGI-HTTP-root-path-01")
def path_without_root_path(bench: Bench) -> None:
    """Without a root path SCRIPT_NAME is empty and PATH_INFO the whole path."""
    for root_path in ("", ...):
        environ = bench.environ(root_path=root_path, path="/foo/bar")
        expect_variable(environ, "PATH_INFO", "/foo/bar")
        expect_variable({"SCRIPT_NAME": "", **environ}, "SCRIPT_NAME", "")


@check("ASGI-HTTP-root-path-02")
def root_path_in_path(bench: Bench) -> None:
    """A root path that the path begins with moves to SCRIPT_NAME."""
    expect_split(bench, "/base", "/base/foo/", ("/base", "/foo/"))
    expect_split(bench, "/a/b", "/a/b/c/d", ("/a/b", "/c/d"))


@check("ASGI-HTTP-root-path-03")
def root_path_not_in_path(bench: Bench) -> None:
    """A path that does not begin with the root path is PATH_INFO as it stands."""
    expect_split(bench, "/base", "/foo", ("/base", "/foo"))
    expect_split(bench, "/base", "/", ("/base", "/"))


@check("RFC3875-path-01")
def root_path_ends_with_a_segment(bench: Bench) -> None:
    """The root path is cut off only where a segment of the path ends."""
    wanted = "/basement/x"
    environ = bench.environ_or_refusal(root_path="/base", path=wanted)
    if environ is not None:
        expect_variable(environ, "PATH_INFO", wanted)


@check("PEP3333-environ-04")
def path_equal_to_root_path(bench: Bench) -> None:
    """A path equal to the root path leaves an empty PATH_INFO."""
    expect_split(bench, "/base", "/base", ("/base", ""))


@check("PRACTICE-root-path-01")
def root_path_with_slash_at_its_end(bench: Bench) -> None:
    """A root path that ends with a slash is taken without it."""
    expect_split(bench, "/base/", "/base/foo", ("/base", "/foo"))
    expect_split(bench, "/base/", "/base//foo", ("/base", "/foo"))


@check("RFC3875-path-02")
def root_path_of_one_slash(bench: Bench) -> None:
    """A root path of "/" is the same as none."""
    expect_split(bench, "/", "/foo", ("", "/foo"))


@check("PEP3333-environ-05")
def root_path_is_cut_once(bench: Bench) -> None:
    """A root path that the path holds twice is cut off once."""
    expect_split(bench, "/api", "/api/api/x", ("/api", "/api/x"))


@check("ASGI-HTTP-root-path-04")
def raw_path_settles_the_cut(bench: Bench) -> None:
    """Where root_path + path is raw_path exactly, the root path is cut off already."""
    expect_split(bench, "/api", "/api/x", ("/api", "/x"), raw_path=b"/api/x")
    environ = bench.environ(root_path="/api", path="/api/x", raw_path=b"/api/api/x")
    if environ.get("PATH_INFO") == "/x":
        raise NotOffered("raw_path is not looked at; PATH_INFO is '/x'")
    expect_variable(environ, "PATH_INFO", "/api/x")


@check("ASGI-HTTP-path-01")
def path_is_not_decoded_again(bench: Bench) -> None:
    """Percent signs in the path, which is decoded already, stay."""
    environ = bench.environ(path="/a%2Fb c", raw_path=b"/a%252Fb%20c")
    expect_variable(environ, "PATH_INFO", "/a%2Fb c")


@check("ASGI-HTTP-path-02")
def path_of_utf_8(bench: Bench) -> None:
    """The path's UTF-8 bytes become one Latin-1 character each."""
    path = "/café/中文"
    wanted = path.encode().decode("latin-1")
    expect_variable(bench.environ(path=path), "PATH_INFO", wanted)


@check("ASGI-HTTP-root-path-05")
def root_path_of_utf_8(bench: Bench) -> None:
    """A root path that is not ASCII is converted too, and still cut off."""
    root = "/中国"
    expect_split(bench, root, f"{root}/x", (root.encode().decode("latin-1"), "/x"))


@check("ASGI-HTTP-path-03")
def path_bytes_that_are_not_utf_8(bench: Bench) -> None:
    """Bytes that the server could not decode are taken from raw_path."""
    environ = bench.environ(path="/caf\ufffd/x", raw_path=b"/caf%E9/x")
    expect_variable(environ, "PATH_INFO", "/caf\xe9/x")


@check("PEP3333-unicode-01")
def path_with_surrogates(bench: Bench) -> None:
    """A byte that the server has decoded to a surrogate is given back."""
    environ = bench.environ_or_refusal(path="/caf\udce9", raw_path=b"/caf%E9")
    if environ is not None:
        expect_variable(environ, "PATH_INFO", "/caf\xe9")


@check("ASGI-HTTP-scope-05")
def raw_path_is_missing(bench: Bench) -> None:
    """A scope without raw_path is served."""
    for raw_path in (None, ...):
        environ = bench.environ(path="/é", raw_path=raw_path)
        expect_variable(environ, "PATH_INFO", "/\xc3\xa9")


@check("RFC9112-asterisk-01")
def path_of_an_asterisk(bench: Bench) -> None:
    """The path of ``OPTIONS *`` stays an asterisk."""
    environ = bench.environ(method="OPTIONS", path="*", raw_path=b"*")
    expect_variable(environ, "PATH_INFO", "*")


@check("PRACTICE-uri-01")
def request_uri(bench: Bench) -> None:
    """REQUEST_URI, if there, is the request target as it came."""
    _expect_uri(bench, "REQUEST_URI")


@check("PRACTICE-uri-02")
def raw_uri(bench: Bench) -> None:
    """RAW_URI, if there, is the request target as it came."""
    _expect_uri(bench, "RAW_URI")


def _expect_uri(bench: Bench, key: str) -> None:
    environ = bench.environ(path="/a/b", raw_path=b"/a%2Fb", query_string=b"x=1%202")
    if key not in environ:
        raise NotOffered(f"there is no {key}")
    expect_variable(environ, key, "/a%2Fb?x=1%202")


# The query.


@check("PEP3333-environ-06")
def query_stays_encoded(bench: Bench) -> None:
    """QUERY_STRING is the query as it came, still percent-encoded."""
    query = b"a=%20b&c=%C3%A9+d"
    environ = bench.environ(query_string=query)
    expect_variable(environ, "QUERY_STRING", query.decode())


@check("PEP3333-unicode-02")
def query_of_raw_bytes(bench: Bench) -> None:
    """Bytes of the query beyond ASCII are decoded as Latin-1."""
    query = b"q=\xe4\xb8\xad"
    environ = bench.environ(query_string=query)
    expect_variable(environ, "QUERY_STRING", query.decode("latin-1"))


@check("PEP3333-environ-07")
def query_is_missing(bench: Bench) -> None:
    """An empty, missing or None query is an empty string or none at all."""
    for query in (b"", None, ...):
        environ = bench.environ(query_string=query)
        expect_variable({"QUERY_STRING": "", **environ}, "QUERY_STRING", "")


# Headers.


@check("PEP3333-environ-08")
def content_type(bench: Bench) -> None:
    """The Content-Type header becomes CONTENT_TYPE and nothing else."""
    headers = [(b"content-type", b"application/json")]
    environ = bench.environ(body=b"{}", headers=headers)
    expect_variable(environ, "CONTENT_TYPE", "application/json")
    expect_absent(environ, "HTTP_CONTENT_TYPE")


@check("PEP3333-environ-09")
def content_length(bench: Bench) -> None:
    """The Content-Length header becomes CONTENT_LENGTH and nothing else."""
    environ = bench.environ(body=b"hello")
    expect_variable(environ, "CONTENT_LENGTH", "5")
    expect_absent(environ, "HTTP_CONTENT_LENGTH")


@check("PEP3333-environ-10")
def content_headers_are_not_invented(bench: Bench) -> None:
    """Without these headers CONTENT_TYPE and CONTENT_LENGTH are empty or missing."""
    environ = bench.environ()
    for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        expect_variable({key: "", **environ}, key, "")


@check("RFC9110-fields-01")
def header_names_of_any_case(bench: Bench) -> None:
    """Header names that are not in lower case mean the same."""
    headers = [
        (b"Content-Length", b"5"),
        (b"Content-Type", b"text/plain"),
        (b"X-Foo", b"bar"),
    ]
    environ = bench.environ(body=b"hello", framing="silent", headers=headers)
    expect_variable(environ, "CONTENT_LENGTH", "5")
    expect_variable(environ, "CONTENT_TYPE", "text/plain")
    expect_variable(environ, "HTTP_X_FOO", "bar")


@check("PEP3333-environ-11")
def other_headers(bench: Bench) -> None:
    """Any other header becomes HTTP_ and its name, upper-case with underscores."""
    environ = bench.environ(headers=[(b"x-forwarded-for", b"192.0.2.1")])
    expect_variable(environ, "HTTP_X_FORWARDED_FOR", "192.0.2.1")


@check("RFC9110-fields-02")
def repeated_headers(bench: Bench) -> None:
    """Repeated headers become one value, with commas, in order, whatever their case."""
    headers = [(b"x-a", b"1"), (b"x-b", b"-"), (b"X-A", b"2"), (b"x-a", b"3")]
    environ = bench.environ(headers=headers)
    expect_variable(environ, "HTTP_X_A", "1,2,3", "1, 2, 3")


@check("RFC9113-cookie-01")
def repeated_cookies(bench: Bench) -> None:
    """Cookies in several header fields are joined with semicolons."""
    environ = bench.environ(headers=[(b"cookie", b"a=1"), (b"cookie", b"b=2")])
    expect_variable(environ, "HTTP_COOKIE", "a=1; b=2")


@check("PEP3333-unicode-03")
def header_values_of_any_bytes(bench: Bench) -> None:
    """Bytes of a header's value are decoded as Latin-1."""
    raw = b"caf\xe9 \xe4\xb8\xad"
    environ = bench.environ(headers=[(b"x-a", raw)])
    expect_variable(environ, "HTTP_X_A", raw.decode("latin-1"))


@check("PEP3333-environ-12")
def empty_header(bench: Bench) -> None:
    """A header with an empty value is there, and one that is not sent is not."""
    environ = bench.environ(headers=[(b"x-empty", b"")])
    expect_variable(environ, "HTTP_X_EMPTY", "")
    expect_absent(environ, "HTTP_X_ABSENT")


@check("RFC9110-length-01")
def repeated_equal_lengths(bench: Bench) -> None:
    """Equal Content-Length headers become one length, or the request is refused."""
    headers = [(b"content-length", b"5")]
    environ = bench.environ_or_refusal(body=b"hello", headers=headers)
    if environ is not None:
        expect_variable(environ, "CONTENT_LENGTH", "5")


@check("PEP3333-environ-13")
def host_and_authorization(bench: Bench) -> None:
    """The Host and Authorization headers are passed on."""
    environ = bench.environ(headers=[(b"authorization", b"Basic eDp5")])
    expect_variable(environ, "HTTP_HOST", "example.org")
    expect_variable(environ, "HTTP_AUTHORIZATION", "Basic eDp5")


@check("RFC9110-fields-04")
def repeated_content_type(bench: Bench) -> None:
    """Two Content-Type headers are not joined into one that means nothing."""
    headers = [(b"content-type", b"text/plain"), (b"content-type", b"text/html")]
    environ = bench.environ_or_refusal(body=b"hello", headers=headers)
    if environ is not None:
        expect_variable(environ, "CONTENT_TYPE", "text/html", "text/plain")


@check("PEP3333-environ-21")
def connection_headers(bench: Bench) -> None:
    """Headers that concern the connection are passed on for information."""
    headers = [(b"connection", b"keep-alive")]
    # In two pieces, since a body that is whole has a length in the coding's place.
    body: Script = [b"he", PAUSE, b"llo"]
    environ = bench.environ(body=body, framing=STREAMED, headers=headers)
    expect_variable(environ, "HTTP_TRANSFER_ENCODING", "chunked")
    expect_variable(environ, "HTTP_CONNECTION", "keep-alive")


@check("PRACTICE-length-01")
def length_of_a_whole_body(bench: Bench) -> None:
    """A body without a length that came in one message gets its CONTENT_LENGTH."""
    seen: list[tuple[str, bytes]] = []

    def use(environ: WSGIEnvironment) -> None:
        length = environ.get("CONTENT_LENGTH") or ""
        seen.append((length, environ["wsgi.input"].read(int(length or 0))))

    bench.request(reading(use), body=b"hello", framing=CHUNKED)
    length, body = seen[0]
    if not length:
        raise NotOffered("CONTENT_LENGTH stays empty")
    expect_equal(body, b"hello", f"a read of CONTENT_LENGTH ({length}) bytes")


# Server and client.


@check("ASGI-HTTP-environ-02")
def server(bench: Bench) -> None:
    """SERVER_NAME and SERVER_PORT come from the scope's server."""
    environ = bench.environ(server=("203.0.113.9", 8443))
    expect_variable(environ, "SERVER_NAME", "203.0.113.9")
    expect_variable(environ, "SERVER_PORT", "8443")


def _expect_valid_server(environ: Environ) -> None:
    name, port = environ.get("SERVER_NAME"), environ.get("SERVER_PORT")
    named = isinstance(name, str) and name not in ("", "None")
    expect(named, f"SERVER_NAME is {name!r}, expected some name")
    # That it is text is for another check.
    digits = re.fullmatch(r"[1-9][0-9]*", str(port))
    expect(digits, f"SERVER_PORT is {port!r}, expected a port's digits")


@check("PEP3333-environ-14")
def server_is_unknown(bench: Bench) -> None:
    """Without a server in the scope SERVER_NAME and SERVER_PORT still are valid."""
    _expect_valid_server(bench.environ(server=None))


@check("ASGI-HTTP-scope-01")
def server_is_missing(bench: Bench) -> None:
    """A scope without the key server is served, with a valid name and port."""
    _expect_valid_server(bench.environ(server=...))


@check("PEP3333-url-01")
def made_up_port(bench: Bench) -> None:
    """A port that is made up is the scheme's default."""
    for scheme, port in (("https", "443"), ("http", "80")):
        environ = bench.environ(server=None, scheme=scheme)
        seen = str(environ.get("SERVER_PORT"))
        expect_equal(seen, port, f"SERVER_PORT for {scheme} without a server")


@check("ASGI-HTTP-scope-02")
def server_on_a_unix_socket(bench: Bench) -> None:
    """A server on a Unix socket gives a valid name and port."""
    _expect_valid_server(bench.environ(server=("/run/app.sock", None)))


@check("PEP3333-url-02")
def name_on_a_unix_socket(bench: Bench) -> None:
    """On a Unix socket the Host header names the server; the socket's path does not."""
    socket = ("/run/app.sock", None)
    headers = [(b"host", b"www.example.org:8443")]
    environ = bench.environ(server=socket, headers=headers)
    expect_variable(environ, "SERVER_NAME", "www.example.org")
    expect_variable(environ, "SERVER_PORT", "8443")
    environ = bench.environ(server=socket, headers=iter(()))
    expect_variable(environ, "SERVER_NAME", "localhost")


@check("RFC3875-server-01")
def server_of_ipv6(bench: Bench) -> None:
    """An IPv6 address in SERVER_NAME is in brackets."""
    environ = bench.environ(server=("2001:db8::1", 8000))
    expect_variable(environ, "SERVER_NAME", "[2001:db8::1]")


@check("ASGI-HTTP-environ-03")
def client_address(bench: Bench) -> None:
    """REMOTE_ADDR is the client's address."""
    environ = bench.environ(client=("192.0.2.99", 4321))
    expect_variable(environ, "REMOTE_ADDR", "192.0.2.99")


@check("ASGI-HTTP-environ-04")
def client_port(bench: Bench) -> None:
    """REMOTE_PORT is the client's port."""
    environ = bench.environ(client=("192.0.2.99", 4321))
    expect_variable(environ, "REMOTE_PORT", "4321")


@check("ASGI-HTTP-scope-08")
def client_is_unknown(bench: Bench) -> None:
    """An unknown client gives no REMOTE_ variable a value."""
    for client in (None, ...):
        environ = bench.environ(client=client)
        keys = [key for key in environ if key.startswith("REMOTE_") and environ[key]]
        expect_absent(environ, *keys)


@check("RFC3875-client-03")
def client_address_is_always_there(bench: Bench) -> None:
    """REMOTE_ADDR is there, and empty, where the client has no address."""
    for client in (None, ..., ("", 0)):
        environ = bench.environ(client=client, server=("/run/app.socket", None))
        address = environ.get("REMOTE_ADDR")
        expect_equal(address, "", f"REMOTE_ADDR for the client {client!r}")


@check("RFC3875-client-01")
def client_of_ipv6(bench: Bench) -> None:
    """An IPv6 address in REMOTE_ADDR is without brackets."""
    environ = bench.environ(client=("2001:db8::7", 4321))
    expect_variable(environ, "REMOTE_ADDR", "2001:db8::7")


@check("RFC3875-client-02")
def client_host(bench: Bench) -> None:
    """REMOTE_HOST is missing or equal to the address: no name is looked up."""
    environ = bench.environ(client=("192.0.2.99", 4321))
    if "REMOTE_HOST" not in environ:
        raise NotOffered("there is no REMOTE_HOST")
    expect_variable(environ, "REMOTE_HOST", "192.0.2.99")


@check("ASGI-HTTP-scope-04")
def addresses_of_any_kind(bench: Bench) -> None:
    """Addresses may be lists, and ports text."""
    for port in (81, "81"):
        environ = bench.environ(
            server=["203.0.113.5", port], client=["192.0.2.7", port]
        )
        expect_variable(environ, "SERVER_NAME", "203.0.113.5")
        expect_variable(environ, "SERVER_PORT", port, str(port))
        expect_variable(environ, "REMOTE_ADDR", "192.0.2.7")


@check("ASGI-HTTP-environ-05")
def protocol(bench: Bench) -> None:
    """SERVER_PROTOCOL names the HTTP version of the request."""
    for version in ("1.0", "1.1"):
        environ = bench.environ(http_version=version)
        expect_variable(environ, "SERVER_PROTOCOL", f"HTTP/{version}")


@check("RFC3875-protocol-01")
def protocol_of_http_2(bench: Bench) -> None:
    """SERVER_PROTOCOL names HTTP/2 and HTTP/3, with a dot."""
    for version in ("2", "3"):
        environ = bench.environ(http_version=version)
        expect_variable(environ, "SERVER_PROTOCOL", f"HTTP/{version}.0")


@check("PEP3333-environ-15")
def scheme(bench: Bench) -> None:
    """wsgi.url_scheme is the scope's scheme, and http where it has none."""
    for given, wanted in (("https", "https"), ("http", "http"), (..., "http")):
        environ = bench.environ(scheme=given)
        expect_variable(environ, "wsgi.url_scheme", wanted)


@check("PEP3333-environ-16")
def https(bench: Bench) -> None:
    """HTTPS is "on" for https."""
    expect_variable(bench.environ(scheme="https"), "HTTPS", "on")


@check("PRACTICE-https-01")
def https_is_off(bench: Bench) -> None:
    """HTTPS says nothing affirmative for http."""
    environ = {"HTTPS": "", **bench.environ(scheme="http")}
    expect_variable(environ, "HTTPS", "", "off")


@check("ASGI-TLS-environ-01")
def tls_version(bench: Bench) -> None:
    """SSL_PROTOCOL names the version of TLS."""
    for number, name in ((0x0304, "TLSv1.3"), (0x0303, "TLSv1.2")):
        environ = bench.environ(scheme="https", extensions=_tls(tls_version=number))
        expect_variable(environ, "SSL_PROTOCOL", name)


@check("ASGI-TLS-environ-02")
def tls_client(bench: Bench) -> None:
    """A verified client certificate is handed on under mod_ssl's names."""
    pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    extensions = _tls(client_cert_chain=[pem], client_cert_name="CN=Ann,O=Example")
    environ = bench.environ(scheme="https", extensions=extensions)
    expect_variable(environ, "SSL_CLIENT_VERIFY", "SUCCESS")
    expect_variable(environ, "SSL_CLIENT_S_DN", "CN=Ann,O=Example")
    expect_variable(environ, "SSL_CLIENT_CERT", pem)


@check("ASGI-TLS-environ-03")
def tls_facts_that_are_unknown(bench: Bench) -> None:
    """What the server does not know of TLS is left out, and no client is made up."""
    environ = bench.environ(scheme="https", extensions=_tls())
    told = [key for key in environ if key.startswith("SSL_") and environ[key]]
    nothing = [key for key in told if environ[key] in ("None", "NONE")]
    harmless = {"SSL_CLIENT_VERIFY"} & set(nothing)  # mod_ssl's word is NONE
    expect_absent(environ, *(key for key in nothing if key not in harmless))
    expect_absent(environ, *(k for k in told if k.startswith("SSL_CLIENT_S_DN")))
    verified = "SUCCESS" in environ.get("SSL_CLIENT_VERIFY", "")
    expect(not verified, "SSL_CLIENT_VERIFY is 'SUCCESS' without a certificate")


def _tls(**facts: Any) -> dict[str, Any]:
    unknown: dict[str, Any] = {
        "server_cert": None,
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": None,
        "cipher_suite": None,
    }
    return {"tls": {**unknown, **facts}}


@check("RFC3875-software-01")
def software(bench: Bench) -> None:
    """SERVER_SOFTWARE says what serves the application."""
    name = bench.environ().get("SERVER_SOFTWARE")
    expect(
        isinstance(name, str) and name, f"SERVER_SOFTWARE is {name!r}, expected a name"
    )


# WSGI's own variables.


@check("PEP3333-environ-17")
def wsgi_version(bench: Bench) -> None:
    """wsgi.version is the tuple (1, 0)."""
    seen = bench.environ().get("wsgi.version")
    expect(
        seen == (1, 0) and type(seen) is tuple,
        f"wsgi.version is {seen!r}, expected (1, 0)",
    )


@check("PEP3333-environ-18")
def run_once(bench: Bench) -> None:
    """wsgi.run_once is false."""
    seen = bench.environ().get("wsgi.run_once")
    expect(not seen, f"wsgi.run_once is {seen!r}, expected False")


@contextmanager
def _ascii_streams() -> Iterator[None]:
    """Make standard output and error such as they are on a badly set up machine."""
    saved = sys.stdout, sys.stderr
    sys.stdout = io.TextIOWrapper(io.BytesIO(), "ascii", "strict")
    sys.stderr = io.TextIOWrapper(io.BytesIO(), "ascii", "backslashreplace")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = saved


def _errors_in(bench: Bench, use: Any) -> list[BaseException]:
    """Use wsgi.errors in an application, and give what that raises."""
    raised: list[BaseException] = []

    def attempt(environ: WSGIEnvironment) -> None:
        try:
            use(environ["wsgi.errors"])
        except Exception as error:
            raised.append(error)

    bench.request(reading(attempt))
    return raised


@check("PEP3333-streams-01")
def errors_methods(bench: Bench) -> None:
    """wsgi.errors has write, writelines and flush, and takes text."""

    def use(errors: Any) -> None:
        errors.write("one\n")
        errors.writelines(["two\n", "three\n"])
        errors.flush()

    raised = _errors_in(bench, use)
    expect(not raised, f"writing to wsgi.errors raised {raised}")


@check("PEP3333-streams-02")
def errors_take_any_text(bench: Bench) -> None:
    """wsgi.errors takes characters that its encoding cannot show."""

    def use(errors: Any) -> None:
        errors.write("é 中 😀\n")
        errors.flush()

    with _ascii_streams():
        raised = _errors_in(bench, use)
    expect(not raised, f"writing to wsgi.errors raised {raised}")


@check("PEP3333-streams-03")
def errors_are_not_output(bench: Bench) -> None:
    """What is written to wsgi.errors does not appear on standard output."""
    with redirect_stdout(io.StringIO()) as output:
        _errors_in(bench, lambda errors: errors.write("some error\n"))
    expect("some error" not in output.getvalue(), "what was written went to sys.stdout")


@check("PRACTICE-streams-01")
def errors_follow_stderr(bench: Bench) -> None:
    """A standard error that was replaced after the adapter was made is used."""
    served = bench.serve(reading(lambda env: env["wsgi.errors"].write("some error\n")))
    saved = sys.stderr
    sys.stderr = log = io.StringIO()
    try:
        served.request()
    finally:
        sys.stderr = saved
    expect(
        "some error" in log.getvalue(), "it did not go to the sys.stderr of the time"
    )


@check("PRACTICE-input-01")
def input_is_terminated(bench: Bench) -> None:
    """wsgi.input_terminated says that the input ends by itself."""
    seen = bench.environ().get("wsgi.input_terminated")
    expect(seen is True, f"wsgi.input_terminated is {seen!r}, expected True")


@check("PRACTICE-scope-01")
def scope_in_the_environ(bench: Bench) -> None:
    """The scope can be reached from the environ; its state is the same object."""
    state = {"db": object()}
    environ = bench.environ(state=state)
    scopes = [
        key
        for key, value in environ.items()
        if isinstance(value, Mapping) and value.get("type") == "http"
    ]
    if not scopes:
        raise NotOffered("the environ does not hold the scope")
    key = scopes[0]
    expect(re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)+", key), f"its key is {key!r}")
    found = environ[key].get("state", {}).get("db")
    expect(found is state["db"], f"environ[{key!r}]['state']['db'] is {found!r}")


@check("ASGI-MAIN-scope-01")
def scope_stays_as_it_is(bench: Bench) -> None:
    """Neither the adapter nor changes to the environ change the scope."""

    def change(environ: WSGIEnvironment) -> None:
        environ["PATH_INFO"] = "/changed"
        environ["HTTP_HOST"] = "changed"
        environ.pop("QUERY_STRING", None)

    exchange = HttpExchange(
        path="/m/a", root_path="/m", body=b"hello", state={"n": [1]}, extensions={}
    )
    before = copy.deepcopy(exchange.scope)
    bench.request(reading(change), exchange)
    expect_equal(exchange.scope, before, "the scope afterwards")


@check("PEP3333-environ-19")
def environ_of_each_request(bench: Bench) -> None:
    """Each request gets an environ of its own."""
    seen: list[dict[str, Any]] = []

    def use(environ: WSGIEnvironment) -> None:
        seen.append(dict(environ))
        environ.clear()
        environ["left.behind"] = True

    served = bench.serve(reading(use))
    served.request(path="/1")
    served.request(path="/2")
    expect_variable(seen[1], "PATH_INFO", "/2")
    expect_absent(seen[1], "left.behind")
    expect_equal(seen[1].keys(), seen[0].keys(), "the second environ's set of keys")


@check("PEP3333-environ-20")
def names_of_variables(bench: Bench) -> None:
    """Variables are named UPPER_CASE, or lower-case with dots."""
    environ = bench.environ(body=b"x", headers=[(b"x-a", b"1")], extensions=_tls())
    pattern = re.compile(r"[A-Z][A-Z0-9_]*|[a-z0-9_]+(\.[a-z0-9_]+)+")
    wrong = [key for key in environ if not pattern.fullmatch(key)]
    expect(not wrong, f"keys of another form: {wrong!r}")


@check("ASGI-HTTP-scope-06")
def headers_that_can_be_read_once(bench: Bench) -> None:
    """The scope's headers may be an iterator over lists."""
    headers = iter([[b"host", b"example.org"], [b"x-a", b"1"], [b"x-b", b"2"]])
    environ = bench.environ(headers=headers)
    wanted = {"HTTP_HOST": "example.org", "HTTP_X_A": "1", "HTTP_X_B": "2"}
    for key, value in wanted.items():
        expect_variable(environ, key, value)


@check("ASGI-HTTP-scope-07")
def smallest_scope(bench: Bench) -> None:
    """A scope with the keys that must be there, and no others, is served."""
    optional = ("scheme", "raw_path", "root_path", "client", "server")
    environ = bench.environ(**dict.fromkeys(optional, ...))
    missing = [key for key in _REQUIRED if key not in environ]
    expect(not missing, f"missing: {', '.join(missing)}")


@check("RFC3875-identity-01")
def process_environment_stays_out(bench: Bench) -> None:
    """Variables of the process do not reach a request as if the client had set them."""
    planted = {
        "SCRIPT_NAME": "/planted",
        "HTTPS": "on",
        "REMOTE_USER": "planted",
        "AUTH_TYPE": "planted",
        "HTTP_PROXY": "http://planted",
    }
    saved = dict(os.environ)
    os.environ.update(planted)
    try:
        environ = bench.environ()
    finally:
        os.environ.clear()
        os.environ.update(saved)
    for key, value in planted.items():
        seen = environ.get(key)
        expect(seen != value, f"{key} of the process is in the environ: {seen!r}")


@check("PEP3333-extensions-01")
def no_bypass(bench: Bench) -> None:
    """A plain request gets no WebSocket, no socket and no other way round WSGI."""
    expect_absent(
        bench.environ(),
        "wsgi.websocket",
        "werkzeug.socket",
        "gunicorn.socket",
        "eventlet.input",
    )
