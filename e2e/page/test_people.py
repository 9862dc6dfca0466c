"""The set-up link, the log-in, and what each role sees."""

import pathlib
import re
import socket

import browser as stage
from meowlink import until
from playwright.sync_api import expect

PASSWORD = "correct horse"


def beyond_loopback():
    """Returns an address of this machine that is not loopback. To ask for the way to an address sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


def expect_refusal(open_page, status, path):
    """Takes an expected answer, and what the console says of it, from what has gone wrong."""
    until(f"{status} {path}", lambda: any(line.startswith(f"{status} ") and line.endswith(path) for line in open_page.wrong))
    open_page.wrong[:] = [line for line in open_page.wrong if str(status) not in line]


def log_in(page, name):
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def test_first_user_adds_others_who_see_what_their_role_allows(open_page, size, tmp_path):
    with stage.MeowingNode("Tom") as node, stage.Hub(tmp_path / "data", node.url, beyond=beyond_loopback()) as hub:
        log = pathlib.Path(hub.log.name)
        link = until("the set-up link is in the log", lambda: re.search(r"#/setup/[\w-]+", log.read_text()))[0]
        page = open_page(f"{hub.url}/{link}", size, ignore_https_errors=True)
        page.get_by_label("Name").fill("anna")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_label("Password again").fill("another")
        page.get_by_role("button", name="Add user").click()
        expect(page.get_by_role("alert")).to_contain_text("differ")
        page.get_by_label("Password again").fill(PASSWORD)
        page.get_by_role("button", name="Add user").click()
        expect(page.locator("article.node h2")).to_have_text("Tom")
        page.locator("li.event").first.wait_for()
        expect(page.get_by_role("button", name="Listen live")).to_be_visible()

        page.get_by_role("link", name="People").click()
        users = page.locator("form").first
        users.get_by_label("Name").fill("vera")
        users.get_by_label("Password").fill("short")
        users.get_by_role("button", name="Add").click()
        expect(page.get_by_role("alert")).to_contain_text("8")
        expect_refusal(open_page, 400, "/api/v1/users")
        users.get_by_label("Password").fill(PASSWORD)
        users.get_by_role("button", name="Add").click()
        expect(page.get_by_role("combobox", name="Role of vera")).to_have_value("viewer")
        tokens = page.locator("form").nth(1)
        tokens.get_by_label("Name").fill("grafana")
        tokens.get_by_role("button", name="Add").click()
        expect(page.locator("main code")).to_contain_text("meowlink_")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

        vera = open_page(hub.url, size, ignore_https_errors=True)
        expect(vera.get_by_role("heading", name="Log in")).to_be_visible()
        expect(vera.get_by_role("link", name="Events")).to_be_hidden()
        log_in(vera, "vera")
        vera.locator("li.event").first.wait_for()
        expect(vera.get_by_role("link", name="People")).to_be_hidden()
        expect(vera.get_by_role("button", name="Listen live")).to_be_hidden()
        vera.goto(f"{hub.url}/#/events/1")
        vera.locator(".sound img").wait_for()
        expect(vera.get_by_role("button", name="Delete event")).to_be_hidden()

        # Who is removed sees nothing more, on an open page either.
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Remove vera").click()
        expect(vera.get_by_role("heading", name="Log in")).to_be_visible()
        open_page.wrong[:] = [line for line in open_page.wrong if not re.search("401|stream|PROTOCOL_ERROR", line)]
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        # Before the hub stops.
        for one in (page, vera):
            one.goto("about:blank")
