from concurrent.futures import ThreadPoolExecutor

import pytest

from conformance.live import reasons
from conformance.live.clients import CutError, read_body
from conformance.live.polling import wait_until
from conformance.live.processes import tracebacks
from tests.integration.apps.plain import SHORT_BYTES
from tests.integration.site import Site, peers_except

pytestmark = pytest.mark.integration


def app_tracebacks(site: Site) -> list[str]:
    return [trace for trace in tracebacks(site.log()) if site.key in trace]


def test_app_that_fails_before_its_response_answers_500_with_its_traceback(
    site: Site,
) -> None:
    response = site.get("plain", f"/fail?key={site.key}")

    assert response.status_code == 500
    assert site.key not in response.text
    wait_until(lambda: app_tracebacks(site), "the app's traceback in the log")
    (trace,) = app_tracebacks(site)
    assert "plain.py" in trace
    assert trace.endswith(f"RuntimeError: deliberate {site.key}")


@pytest.mark.parametrize(
    "length", ["", "&length=1000"], ids=["unknown-length", "known-length"]
)
@peers_except(reasons.KEEPS_THE_CUT_OPEN)
def test_app_that_fails_in_mid_response_leaves_it_cut(site: Site, length: str) -> None:
    with site.connect() as connection:
        site.start(connection, "plain", f"/fail-late?x=1{length}")

        assert connection.read_head().status == 200
        with pytest.raises(CutError):
            read_body(connection)
    wait_until(lambda: app_tracebacks(site), "the app's traceback in the log")


@peers_except(reasons.KEEPS_THE_CUT_OPEN)
def test_body_that_gets_too_long_in_mid_response_cuts_it_without_a_traceback(
    site: Site,
) -> None:
    before = site.stat("plain-short", "rejected")
    unsized = ("transfer-encoding", "chunked")
    with site.connect() as connection:
        headers = () if site.peer.http2 else (unsized,)
        site.start(connection, "plain-short", "/copy", *headers, end=False)
        connection.send(b"x")
        assert connection.read_head().status == 200
        assert connection.read_some()
        connection.send(bytes(SHORT_BYTES))
        with pytest.raises(CutError):
            read_body(connection)
    site.wait_until_idle("plain-short")
    assert site.stat("plain-short", "rejected") == before + 1
    assert tracebacks(site.log()) == []


def test_threads_of_an_app_that_failed_go_on_to_serve(site: Site) -> None:
    target = f"/fail?key={site.key}"
    with ThreadPoolExecutor(8) as pool:
        failures = pool.map(lambda _: site.get("plain-narrow", target), range(8))
        assert [response.status_code for response in failures] == [500] * 8

    with ThreadPoolExecutor(2) as pool:
        target = f"/meet?key={site.key}"
        answers = pool.map(lambda _: site.get("plain-narrow", target).text, range(2))
        assert list(answers) == ["met", "met"]
    wait_until(lambda: len(app_tracebacks(site)) == 8, "all tracebacks in the log")
    site.wait_until_idle("plain-narrow")
