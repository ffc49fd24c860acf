"""The project's own tests, as Django runs them: each by way of ASGI and without."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.signals import request_finished, request_started
from django.db import connection
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponsePermanentRedirect,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.test import Client, TestCase, override_settings
from django.urls import path

from tests.integration.apps.django_project.urls import urlpatterns as project_urls
from tests.integration.apps.django_project.visits.models import Note
from wsgi_asgi import Limits
from wsgi_asgi.testing import django_client


def meta(request: HttpRequest) -> HttpResponse:
    names = request.GET.getlist("name")
    return JsonResponse({name: request.META.get(name) for name in names})


def fail(request: HttpRequest) -> HttpResponse:
    Note.objects.create(text="before the error")
    raise LookupError("the view fails")


def interrupt(request: HttpRequest) -> HttpResponse:
    raise KeyboardInterrupt


def say(request: HttpRequest) -> HttpResponse:
    messages.success(request, "said")
    return HttpResponseRedirect("/heard/")


def hear(request: HttpRequest) -> HttpResponse:
    return HttpResponse(", ".join(map(str, messages.get_messages(request))))


def teapot(request: HttpRequest) -> HttpResponse:
    return HttpResponse("tea", status=418, reason="Tea Only", headers={"X-Tea": "yes"})


def moved(request: HttpRequest) -> HttpResponse:
    return HttpResponsePermanentRedirect("/session/")


def echo_json(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"got": json.loads(request.body), "on": threading.get_ident()})


def fail_in_stream(request: HttpRequest) -> StreamingHttpResponse:
    def chunks() -> Iterator[str]:
        yield "first"
        raise LookupError("the stream fails")

    return StreamingHttpResponse(chunks())


def document(request: HttpRequest) -> FileResponse:
    return FileResponse(
        open(__file__, "rb"), as_attachment=True
    )  # the response closes it


urlpatterns = [
    *project_urls,
    path("meta/", meta),
    path("fail/", fail),
    path("interrupt/", interrupt),
    path("say/", say),
    path("heard/", hear),
    path("teapot/", teapot),
    path("moved/", moved),
    path("json/", echo_json),
    path("fail-in-stream/", fail_in_stream),
    path("document/", document),
]


@override_settings(
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    MESSAGE_STORAGE="django.contrib.messages.storage.session.SessionStorage",
)
class PlainTest(TestCase):
    client: Any  # what it gives is typed as HttpResponse, which not all of it is

    def test_form_is_stored_in_the_transaction_of_the_test(self) -> None:
        Note.objects.create(text="by the test")
        response = self.client.post("/notes/", {"text": "café"}, follow=True)

        assert response.redirect_chain == [("/notes/", 302)]
        self.assertContains(response, "<p>by the test</p><p>café</p>", html=True)
        assert Note.objects.filter(text="café").exists()
        assert connection.in_atomic_block

    def test_form_of_another_test_is_rolled_back(self) -> None:
        assert Note.objects.count() == 0
        self.client.post("/notes/", {"text": "café"})
        assert Note.objects.count() == 1

    def test_queries_are_counted(self) -> None:
        with self.assertNumQueries(1):
            self.client.get("/notes/")

    def test_form_with_errors_keeps_templates_and_context(self) -> None:
        response = self.client.post("/notes/", {"text": "x" * 41})

        self.assertFormError(
            response.context["form"],
            "text",
            "Ensure this value has at most 40 characters (it has 41).",
        )
        assert None in [template.name for template in response.templates]
        assert response.resolver_match.url_name == "notes"
        assert response.wsgi_request.POST["text"] == "x" * 41

    def test_csrf_is_enforced_if_the_client_says_so(self) -> None:
        strict = self.client_class(enforce_csrf_checks=True)
        assert strict.post("/notes/", {"text": "x"}).status_code == 403
        token = strict.get("/notes/").context["csrf_token"]
        fields = {"text": "x", "csrfmiddlewaretoken": str(token)}
        assert strict.post("/notes/", fields).status_code == 302

        self.client.handler.enforce_csrf_checks = True
        assert self.client.post("/notes/", {}).status_code == 403

    def test_session_lives_and_can_be_set(self) -> None:
        session = self.client.session
        session["visits"] = 5
        session.save()
        assert self.client.get("/session/").json() == {"visits": 6}
        assert self.client.get("/session/").json() == {"visits": 7}
        assert self.client.session["visits"] == 7

    def test_cookies_are_kept_with_their_attributes(self) -> None:
        response = self.client.get("/set-cookies/")
        assert response.cookies["one"]["max-age"] == 60
        assert self.client.get("/cookies/").json() == {"one": "1", "two": "2"}

    def test_messages_survive_the_redirect(self) -> None:
        response = self.client.get("/say/", follow=True)
        self.assertContains(response, "said")
        redirect = self.client.get("/say/")
        self.assertRedirects(redirect, "/heard/")
        said = [
            str(message) for message in messages.get_messages(redirect.wsgi_request)
        ]
        assert said == ["said"]

    def test_error_of_a_view_is_raised(self) -> None:
        with self.assertRaisesMessage(LookupError, "the view fails"):
            self.client.get("/fail/")
        assert Note.objects.filter(text="before the error").exists()

    def test_error_page_is_given_if_the_client_says_so(self) -> None:
        quiet: Any = self.client_class(raise_request_exception=False)
        with self.assertLogs("django.request", "ERROR"):
            response = quiet.get("/fail/")
        assert response.status_code == 500
        assert response.exc_info[0] is LookupError

    def test_interrupt_ends_the_test(self) -> None:
        with pytest.raises(KeyboardInterrupt):
            self.client.get("/interrupt/")

    def test_missing_page_is_404(self) -> None:
        with self.assertLogs("django.request", "WARNING"):
            response = self.client.get("/missing/")
        self.assertContains(response, "Not Found", status_code=404)

    def test_status_reason_and_headers_are_the_views(self) -> None:
        with self.assertLogs("django.request", "WARNING"):
            response = self.client.get("/teapot/")
        assert (response.status_code, response.reason_phrase) == (418, "Tea Only")
        assert ("X-Tea", "yes") in response.items()
        assert response["content-length"] == "3"

    def test_head_has_headers_and_no_content(self) -> None:
        response = self.client.head("/where/here")
        assert (response.status_code, response.content) == (200, b"")
        assert response["Content-Type"] == "application/json"

    def test_permanent_redirect_is_followed(self) -> None:
        response = self.client.get("/moved/", follow=True)
        assert response.redirect_chain == [("/session/", 301)]
        assert response.json() == {"visits": 1}

    def test_json_arrives_on_the_thread_of_the_test(self) -> None:
        response = self.client.post(
            "/json/", {"a": [1, "é"]}, content_type="application/json"
        )
        assert response.json() == {"got": {"a": [1, "é"]}, "on": threading.get_ident()}

    def test_upload_arrives_whole(self) -> None:
        file = SimpleUploadedFile("big.bin", b"0123456789" * 20_000)
        response = self.client.post("/upload/?key=test", {"file": file})
        assert response.json()["bytes"] == 200000
        assert response.json()["name"] == "big.bin"

    def test_stream_is_a_stream(self) -> None:
        Note.objects.create(text="one")
        response = self.client.get("/rows/")
        assert response.streaming
        assert response.getvalue() == b"one\nsame thread"
        assert len(self.client.get("/stream/?bytes=300000").getvalue()) == 300000

    def test_file_is_sent_and_closed(self) -> None:
        response = self.client.get("/document/")
        assert "tests.py" in response["Content-Disposition"]
        with open(__file__, "rb") as file:
            assert b"".join(response.streaming_content) == file.read()
        response.close()

    def test_error_in_a_stream_is_raised_where_it_is_read(self) -> None:
        response = self.client.get("/fail-in-stream/")
        chunks = iter(response.streaming_content)
        assert next(chunks) == b"first"
        with self.assertRaisesMessage(LookupError, "the stream fails"):
            next(chunks)

    def test_signals_are_sent_once_each(self) -> None:
        sent: list[Any] = []

        def note(signal: Any, **_: Any) -> None:
            sent.append(signal)

        for signal in (request_started, request_finished):
            signal.connect(note)
            self.addCleanup(signal.disconnect, note)
        self.client.get("/where/here")
        list(self.client.get("/rows/").streaming_content)
        assert sent == [request_started, request_finished] * 2

    def test_environ_of_the_client_arrives(self) -> None:
        response = self.client.get(
            "/meta/?name=REMOTE_USER&name=HTTP_X_FORWARDED_FOR&name=SERVER_NAME"
            "&name=wsgi.url_scheme&name=REMOTE_ADDR",
            secure=True,
            headers={"x-forwarded-for": "192.0.2.1"},
            REMOTE_USER="ada",
        )
        assert response.json() == {
            "REMOTE_USER": "ada",
            "HTTP_X_FORWARDED_FOR": "192.0.2.1",
            "SERVER_NAME": "testserver",
            "wsgi.url_scheme": "https",
            "REMOTE_ADDR": "127.0.0.1",
        }

    def test_path_is_decoded_once(self) -> None:
        response = self.client.get("/where/caf%C3%A9%2520")
        assert response.json()["path"] == "/where/café%20"

    def test_asynchronous_view_is_run(self) -> None:
        response = self.client.get("/context/")
        assert response.status_code == 200


class AdaptedTest(PlainTest):
    client_class = django_client(Client)

    def test_view_is_called_by_the_adapter(self) -> None:
        response = self.client.get("/meta/?name=SERVER_SOFTWARE")
        assert response.json() == {"SERVER_SOFTWARE": "wsgi-asgi"}
        assert "asgi.scope" in response.wsgi_request.META

    def test_adapter_refuses_with_a_response(self) -> None:
        narrow: Any = django_client(Client, limits=Limits(body=100))()
        response = narrow.post("/notes/", {"text": "x" * 200})
        self.assertContains(response, "longer than 100 bytes", status_code=413)

    def test_body_without_a_length_is_read_with_spool(self) -> None:
        spooling: Any = django_client(Client, spool=True)()
        without = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}
        response = spooling.post("/raw/", b"abc", content_type="text/plain", **without)
        assert response.json()["bytes"] == 3
