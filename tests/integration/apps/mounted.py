"""Flask and Django below a path of Starlette and of FastAPI."""

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.integration.apps import flask_app
from tests.integration.apps.django_project import wsgi as django_app

starlette_app = Starlette(
    routes=[
        Mount("/flask", flask_app.app),
        Mount("/django", django_app.app),
        Mount("/outer", routes=[Mount("/inner", flask_app.app)]),
    ]
)

fastapi_app = FastAPI()
fastapi_app.mount("/flask", flask_app.app)
fastapi_app.mount("/django", django_app.app)
