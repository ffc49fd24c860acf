from django.urls import path

from tests.integration.apps.django_project.visits import views

urlpatterns = [
    path("where/<str:name>", views.where, name="where"),
    path("notes/", views.notes, name="notes"),
    path("session/", views.count_visits, name="session"),
    path("set-cookies/", views.set_cookies),
    path("cookies/", views.show_cookies),
    path("form/", views.form),
    path("upload/", views.upload),
    path("raw/", views.raw),
    path("stream/", views.stream),
    path("rows/", views.stream_rows),
    path("file/", views.file),
    path("opened/<str:name>", views.opened_file),
    path("stored/<str:name>", views.stored_file),
    path("in-database/", views.file_in_database),
    path("return-upload/", views.return_upload),
    path("events/", views.events),
    path("context/", views.show_context),
]
