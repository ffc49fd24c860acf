import os

from django.core.wsgi import get_wsgi_application

from wsgi_asgi import WsgiToAsgi

os.environ.setdefault(
    "DJANGO_SETTINGS_MODULE", "tests.integration.apps.django_project.settings"
)

application = get_wsgi_application()
app = WsgiToAsgi(application)
