"""Fixtures. A page fails its test when the console shows an error or a request fails."""

import pytest
from playwright.sync_api import expect

import browser as stage
from meowlink import SOON_S, until

expect.set_options(timeout=SOON_S * 1000)

# A name of a cat that would run a script if the page treated it as markup.
EVIL = "<img src=x onerror=\"window.pwned=1\">"


@pytest.fixture(scope="session")
def chromium():
    with stage.chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def live(tmp_path_factory):
    """A hub with a node that meows all the time."""
    with stage.MeowingNode("Tom") as node, stage.Hub(tmp_path_factory.mktemp("live"), node.url) as hub:
        hub.node = node
        hub.wait_for_events(1)
        yield hub


@pytest.fixture(scope="session")
def settled(tmp_path_factory):
    """A hub with a dozen events, whose node has stopped, so that only the test changes anything."""
    folder = tmp_path_factory.mktemp("settled")
    config = folder / "hub.toml"
    with stage.MeowingNode(EVIL) as node:
        config.write_text(f"node = ['{EVIL}={node.url}']")
        with stage.Hub(folder / "data", config=config) as hub:
            hub.wait_for_events(12)
            hub.stop()
    # The first hub may still finish an event that has begun. This one never streamed from the node.
    with stage.Hub(folder / "data", config=config) as hub:
        until("the node is away", lambda: hub.get("/api/v1/listening")["nodes"][0]["state"] == "away")
        yield hub


@pytest.fixture(params=["desktop", "phone"])
def size(request):
    """Runs a test at both widths."""
    return stage.PHONE if request.param == "phone" else stage.DESKTOP


@pytest.fixture
def open_page(chromium):
    """Opens pages. When the test ends, none of them may have had an error."""
    contexts, wrong = [], []

    def open_page(url, size=stage.DESKTOP, **options):
        options = {"locale": "en-GB", "timezone_id": "Asia/Kathmandu", **options}
        context = chromium.new_context(viewport=size, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("response", lambda answer: wrong.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
        page.on("requestfailed", failed)
        page.goto(url)
        return page

    def failed(request):
        # The page itself aborts streams, and clips that are stopped.
        if request.failure != "net::ERR_ABORTED":
            wrong.append(f"{request.failure} {request.url}")

    open_page.wrong = wrong
    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []
