import hashlib
import threading
from collections.abc import Iterator

from django import forms
from django.conf import settings
from django.core.files.storage import FileSystemStorage
from django.core.files.uploadedfile import TemporaryUploadedFile, UploadedFile
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.shortcuts import redirect
from django.template import engines
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt

from tests.integration.apps import context, journal, payload, plain
from tests.integration.apps.django_project.visits.apps import keys
from tests.integration.apps.django_project.visits.models import Note
from tests.integration.apps.stored import Stored

PAGE = """
<form method="post" action="{% url 'notes' %}">{% csrf_token %}{{ form }}</form>
{% for note in notes %}<p>{{ note.text }}</p>{% endfor %}
"""


class NoteForm(forms.Form):
    text = forms.CharField(max_length=40)


def keep_key(request: HttpRequest) -> str:
    key = request.GET.get("key", "")
    keys.key = key
    return key


def where(request: HttpRequest, name: str) -> HttpResponse:
    keep_key(request)
    link = reverse("where", args=[name])
    return JsonResponse(
        {
            "path": request.path_info,
            "root": request.META["SCRIPT_NAME"],
            "link": link,
            "external": request.build_absolute_uri(link),
        }
    )


def notes(request: HttpRequest) -> HttpResponse:
    form = NoteForm(request.POST or None)
    if form.is_valid():
        Note.objects.create(text=form.cleaned_data["text"])
        return redirect("notes")
    page = engines["django"].from_string(PAGE)
    stored = Note.objects.order_by("pk")
    return HttpResponse(page.render({"form": form, "notes": stored}, request))


def count_visits(request: HttpRequest) -> HttpResponse:
    visits = request.session.get("visits", 0) + 1
    request.session["visits"] = visits
    return JsonResponse({"visits": visits})


def set_cookies(request: HttpRequest) -> HttpResponse:
    response = HttpResponse("set")
    response.set_cookie("one", "1", max_age=60)
    response.set_cookie("two", "2")
    return response


def show_cookies(request: HttpRequest) -> HttpResponse:
    return JsonResponse(request.COOKIES)


@csrf_exempt
def form(request: HttpRequest) -> HttpResponse:
    return JsonResponse(dict(request.POST.lists()))


@csrf_exempt
def upload(request: HttpRequest) -> HttpResponse:
    """Store the file of a form, then answer with its checksum."""
    key = keep_key(request)
    journal.note(key, "called")
    file = request.FILES["file"]
    assert isinstance(file, UploadedFile)
    path = settings.DIRECTORY / f"django-{key}"
    with path.open("wb") as stored:
        for chunk in file.chunks():
            stored.write(chunk)
    journal.note(key, "stored")
    content = path.read_bytes()
    path.unlink()
    sha256 = hashlib.sha256(content).hexdigest()
    return JsonResponse({"sha256": sha256, "bytes": len(content), "name": file.name})


@csrf_exempt
def raw(request: HttpRequest) -> HttpResponse:
    sha256 = hashlib.sha256(request.body).hexdigest()
    return JsonResponse({"sha256": sha256, "bytes": len(request.body)})


def stream(request: HttpRequest) -> StreamingHttpResponse:
    keep_key(request)
    return StreamingHttpResponse(payload.blocks(int(request.GET["bytes"])))


def stream_rows(request: HttpRequest) -> StreamingHttpResponse:
    """Read the database while the response is under way, on the view's thread."""
    keep_key(request)
    thread = threading.get_ident()

    def rows() -> Iterator[str]:
        for note in Note.objects.order_by("pk").iterator(chunk_size=1):
            yield f"{note.text}\n"
        yield "same thread" if threading.get_ident() == thread else "another thread"

    return StreamingHttpResponse(rows())


def file(request: HttpRequest) -> FileResponse:
    keep_key(request)
    return FileResponse((settings.DIRECTORY / "download.bin").open("rb"))


def opened_file(request: HttpRequest, name: str) -> FileResponse:
    keep_key(request)
    keys.file = (settings.DIRECTORY / "files" / name).open("rb")
    return FileResponse(keys.file)


def stored_file(request: HttpRequest, name: str) -> FileResponse:
    keep_key(request)
    keys.file = FileSystemStorage(settings.DIRECTORY / "files").open(name)
    return FileResponse(keys.file)


def file_in_database(request: HttpRequest) -> FileResponse:
    keys.file = Stored(keep_key(request), payload.CHANGED_BYTES)
    return FileResponse(keys.file)


@csrf_exempt
def return_upload(request: HttpRequest) -> FileResponse:
    keep_key(request)
    keys.file = request.FILES["file"]
    assert isinstance(keys.file, TemporaryUploadedFile)
    return FileResponse(keys.file)


def events(request: HttpRequest) -> StreamingHttpResponse:
    """Send events until the client leaves."""
    key = keep_key(request)

    def ticks() -> Iterator[str]:
        try:
            while True:
                yield "data: tick\n\n"
                plain.pause()
        finally:
            journal.note(key, "closed")

    return StreamingHttpResponse(ticks(), content_type="text/event-stream")


async def show_context(request: HttpRequest) -> HttpResponse:
    return JsonResponse(await context.seen_in_async_code())
