"""A Django site in one file. Run: uvicorn examples.django_app:app"""

from django.conf import settings
from django.core.management.utils import get_random_secret_key
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from wsgi_asgi import WsgiToAsgi

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=get_random_secret_key(),
)


def count(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"Django read {len(request.body)} bytes\n")


urlpatterns = [path("", count)]

app = WsgiToAsgi(get_wsgi_application())
