"""Flask and Django applications, as small as a project of theirs can be.

Django has the middleware that `django-admin startproject` writes, less what needs a
database. Neither reads a file or has a template: measured is the way to a view.
"""

import os
from wsgiref.types import WSGIApplication

from benchmarks.applications import HELLO

__all__ = [
    "FILE_VARIABLE",
    "django_application",
    "flask_application",
    "flask_sock_application",
]

# The environment variable that names the file to be downloaded.
FILE_VARIABLE = "BENCHMARK_FILE"


def flask_application() -> WSGIApplication:
    """Make a Flask application: a view, and a file's download."""
    from flask import Flask, Response, send_file

    app = Flask("benchmarks")

    @app.get("/flask")
    def hello() -> Response:
        return Response(HELLO, mimetype="text/plain")

    @app.get("/file")
    def file() -> Response:
        return send_file(os.environ[FILE_VARIABLE], "application/octet-stream")

    return app


def flask_sock_application() -> WSGIApplication:
    """Make a Flask application that sends back what comes by WebSocket."""
    from flask import Flask
    from flask_sock import Sock
    from simple_websocket import Server

    app = Flask("benchmarks")
    sock = Sock(app)

    def echo(websocket: Server) -> None:
        while True:
            websocket.send(websocket.receive())

    sock.route("/flask-sock")(echo)
    return app


def django_application() -> WSGIApplication:
    """Set Django up, once in a process, and make its application: one view."""
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpRequest, HttpResponse
    from django.urls import path

    def hello(request: HttpRequest) -> HttpResponse:
        return HttpResponse(HELLO, content_type="text/plain")

    class Urls:
        urlpatterns = [path("django", hello)]

    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=Urls,
        SECRET_KEY="for the benchmark",
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.middleware.clickjacking.XFrameOptionsMiddleware",
        ],
    )
    return get_wsgi_application()
