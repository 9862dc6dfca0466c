"""Starts a headless Chromium and the daemons whose page it opens."""

import contextlib
import json
import pathlib
import urllib.request

import meowlink
from playwright.sync_api import sync_playwright

WORKSPACE = pathlib.Path(__file__).parents[2]
MEOWS = WORKSPACE / "demo/meows"

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}

# For Debian's Chromium as root in a container without a sound card, and without requests to the internet.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]


@contextlib.contextmanager
def chromium():
    """Runs the browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        browser.close()


def becomes(page, expression, argument=None, deadline_s=60):
    """Waits until an expression is true on the page. (Playwright's own wait needs `eval`, which the page forbids.)"""
    return meowlink.until(expression, lambda: page.evaluate(expression, argument), deadline_s)


class MeowingNode(meowlink.Daemon):
    """A cat-node that plays the meows of the demo in a loop."""

    def __init__(self, cat, source=f"wav:{MEOWS}", host="127.0.0.1", more=()):
        self.port = meowlink.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        listen = ["--listen", f"{host}:{self.port}"]
        super().__init__("cat-node", "serve", *listen, "--owner", "http://127.0.0.1:1", "--cat", cat, "--source", source, *more)
        meowlink.wait_for_port(self.port)


class Hub(meowlink.Daemon):
    """A hub that asks its nodes for the names of their cats."""

    def __init__(self, folder, *nodes, http=None, config=None, discover=False, beyond=None):
        self.http = http or meowlink.free_port()
        self.url = f"http://127.0.0.1:{self.http}"
        arguments = ["--http", f"127.0.0.1:{self.http}"]
        # An address of this machine that is not loopback: the hub has HTTPS there.
        if beyond:
            self.url = f"https://{beyond}:{self.http}"
            arguments = ["--http", f"0.0.0.0:{self.http}"]
        for role in ("owner", "dog", "analysis"):
            arguments += [f"--{role}", f"127.0.0.1:{meowlink.free_port()}"]
        if config:
            arguments += ["--config", config]
        for node in nodes:
            arguments += ["--node", node]
        super().__init__("hub", "serve", *arguments, f"--discover={str(discover).lower()}", "--data-dir", folder)
        meowlink.wait_for_port(self.http)

    def get(self, path):
        """Returns the JSON at a path."""
        with urllib.request.urlopen(self.url + path, timeout=meowlink.SOON_S) as answer:
            return json.load(answer)

    def events(self, query="limit=500"):
        """Returns events, the newest first."""
        return self.get(f"/api/v1/events?{query}")["events"]

    def wait_for_events(self, count):
        """Waits until `count` events are stored."""
        meowlink.until(f"{count} events", lambda: len(self.events()) >= count, 120)
