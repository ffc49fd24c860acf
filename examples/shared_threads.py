"""Two applications on one set of threads. Run: uvicorn examples.shared_threads:app"""

from flask import Flask
from starlette.applications import Starlette
from starlette.routing import Mount

from wsgi_asgi import WsgiToAsgi

shop = Flask("shop")
admin = Flask("admin")


@shop.get("/")
@admin.get("/")
def threads() -> str:
    return f"One pool: {admin_asgi.executor is shop_asgi.executor}\n"


shop_asgi = WsgiToAsgi(shop, threads=8)
admin_asgi = WsgiToAsgi(admin, executor=shop_asgi.executor)

app = Starlette(routes=[Mount("/admin", admin_asgi), Mount("/", shop_asgi)])
