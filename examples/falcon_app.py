"""A Falcon application. Run: uvicorn examples.falcon_app:app"""

import falcon

from wsgi_asgi import WsgiToAsgi


class Hello:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = {"hello": "Falcon", "path": req.path}


falcon_app = falcon.App()
falcon_app.add_route("/", Hello())

app = WsgiToAsgi(falcon_app)
