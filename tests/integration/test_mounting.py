import pytest

from tests.integration.site import Site

pytestmark = pytest.mark.integration

FRAMEWORKS = pytest.mark.parametrize("framework", ["flask", "django"])


def expected(site: Site, root: str) -> dict[str, str]:
    return {
        "path": "/where/here",
        "root": root,
        "link": f"{root}/where/here",
        "external": f"{site.server.url}{root}/where/here",
    }


@FRAMEWORKS
def test_app_at_the_root_links_to_itself(site: Site, framework: str) -> None:
    assert site.get(framework, "/where/here").json() == expected(site, "")


@FRAMEWORKS
@pytest.mark.parametrize("outer", ["starlette", "fastapi"])
def test_app_below_a_mount_links_to_itself(
    site: Site, outer: str, framework: str
) -> None:
    response = site.get(outer, f"/{framework}/where/here")

    assert response.json() == expected(site, f"/{framework}")


@FRAMEWORKS
@pytest.mark.parametrize("outer", ["starlette", "fastapi"])
def test_path_that_only_begins_like_a_mount_is_not_cut(
    site: Site, outer: str, framework: str
) -> None:
    response = site.get(outer, f"/{framework}{framework}/where/here")

    assert response.status_code == 404


def test_app_below_two_mounts_links_to_itself(site: Site) -> None:
    response = site.get("starlette", "/outer/inner/where/here")

    assert response.json() == expected(site, "/outer/inner")


@FRAMEWORKS
def test_app_behind_a_proxy_that_cuts_the_root_path_links_to_itself(
    rooted_site: Site, framework: str
) -> None:
    response = rooted_site.get(framework, "/where/here")

    assert response.json() == expected(rooted_site, "/base")


@FRAMEWORKS
def test_app_below_the_root_path_links_to_itself(
    rooted_site: Site, framework: str
) -> None:
    if rooted_site.peer.server.startswith("uvicorn"):
        pytest.skip("uvicorn prepends its root path to the path that it was sent")
    response = rooted_site.get(framework, "/base/where/here")

    assert response.json() == expected(rooted_site, "/base")


@FRAMEWORKS
@pytest.mark.parametrize("outer", ["starlette", "fastapi"])
def test_app_below_a_mount_below_the_root_path_links_to_itself(
    rooted_site: Site, outer: str, framework: str
) -> None:
    # Starlette cuts a mount only off a path that includes the root path, as ASGI has
    # it; uvicorn puts it there itself.
    prefix = "" if rooted_site.peer.server.startswith("uvicorn") else "/base"
    response = rooted_site.get(outer, f"{prefix}/{framework}/where/here")

    assert response.json() == expected(rooted_site, f"/base/{framework}")
