"""All applications in one process: the `x-app` header names the one to run.

A header, since nothing of the scope may change on the way: the path least of all.
"""

from starlette.datastructures import Headers, QueryParams
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.integration.apps import (
    async_views,
    decimals,
    files,
    flask_app,
    journal,
    leaving,
    mounted,
    others,
    plain,
    storages,
)
from tests.integration.apps.context import ContextMiddleware
from tests.integration.apps.django_project import wsgi as django_app

ADAPTERS = {
    "plain": plain.app,
    "plain-narrow": plain.narrow,
    "plain-streaming": plain.streaming,
    "plain-whole": plain.whole,
    "plain-choosing": plain.choosing,
    "plain-bounded": plain.bounded,
    "plain-limited": plain.limited,
    "plain-short": plain.short,
    "flask": flask_app.app,
    "flask-streaming": flask_app.streaming,
    "flask-narrow": flask_app.narrow,
    "django": django_app.app,
    "bottle": others.bottle_app,
    "pyramid": others.pyramid_app,
    "falcon": others.falcon_app,
    "cherrypy": others.cherrypy_app,
    "cherrypy-streaming": others.cherrypy_streaming,
    "wsgidav": storages.dav_app,
    "dulwich": storages.git_app,
    "files": files.plain_app,
    "flask-files": files.flask_app,
    "bottle-files": files.bottle_app,
    "pyramid-files": files.pyramid_app,
    "whitenoise-files": files.whitenoise_app,
    "left": leaving.wide,
    "left-narrow": leaving.narrow,
    "crowded": leaving.crowded,
    "async-views": async_views.adapter,
    "decimals": decimals.own_pool,
    "decimals-executor": decimals.executor,
    "decimals-thread-sensitive": decimals.thread_sensitive,
}
APPS: dict[str, ASGIApp] = {
    **ADAPTERS,
    **leaving.APPS,
    "async-views": async_views.app,
    "plain-in-context": ContextMiddleware(plain.app),
    "flask-in-context": ContextMiddleware(flask_app.app),
    "django-in-context": ContextMiddleware(django_app.app),
    "starlette": mounted.starlette_app,
    "fastapi": mounted.fastapi_app,
}


STATS = (
    "threads",
    "busy",
    "queued",
    "streams",
    "completed",
    "rejected",
    "disconnected",
    "dropped",
)


async def probe(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with an adapter's numbers, or with the journal of a key; open a gate."""
    query = QueryParams(scope["query_string"])
    if "open" in query:
        leaving.gates[query["open"]].set()
    if "stats" in query:
        stats = ADAPTERS[query["stats"]].stats()
        response = JSONResponse({name: getattr(stats, name) for name in STATS})
    else:
        response = JSONResponse(journal.read(query.get("journal", "")))
    await response(scope, receive, send)


async def answer_lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await answer_lifespan(receive, send)
        return
    headers = Headers(scope=scope)
    key = headers.get("x-key", "")
    if key:
        journal.note(key, "arrived")
    await APPS.get(headers.get("x-app", ""), probe)(scope, receive, send)
