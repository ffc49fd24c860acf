import threading

from django.apps import AppConfig
from django.core.signals import request_finished

from tests.integration.apps import journal

keys = threading.local()


def note_finished(**_: object) -> None:
    """Note the end under the key that a view left on this very thread."""
    key, file = keys.__dict__.pop("key", ""), keys.__dict__.pop("file", None)
    journal.note(key, "request_finished")
    if file is not None:
        journal.note(key, "file closed" if file.closed else "file open")


class VisitsConfig(AppConfig):
    name = "tests.integration.apps.django_project.visits"

    def ready(self) -> None:
        request_finished.connect(note_finished)
