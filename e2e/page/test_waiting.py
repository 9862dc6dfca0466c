"""Nodes that the hub finds and that wait to be admitted. The tests run on a network of their own: pytest starts itself
again in new namespaces of the network and the host name, so that it neither finds nor disturbs anything else on this
machine."""

import os
import pathlib
import subprocess
import sys

import axe_playwright_python
import pytest
from playwright.sync_api import expect

import browser as stage
from meowlink import BINARIES, until

AXE = pathlib.Path(axe_playwright_python.__file__).parent / "axe.min.js"

# Set in the second process.
INSIDE = "MEOWLINK_TEST_NETWORK"

# A machine called attic with one interface.
NETWORK = (
    "hostname attic && ip link set lo up && ip link add cats0 type veth peer name cats1 && ip link set cats1 up"
    " && ip link set cats0 up && ip address add 10.99.0.5/24 dev cats0"
)

# Announcements take seconds.
FOUND_MS = 120_000

# Keeps in `said` all that the page says.
KEEP_SAID = """
  const line = document.querySelector('#say');
  window.said = [];
  new MutationObserver(() => said.push(line.textContent)).observe(line, { childList: true, characterData: true, subtree: true });
"""

inside = pytest.mark.skipif(INSIDE not in os.environ, reason="run by the first test, on a network of its own")


@pytest.mark.skipif(INSIDE in os.environ, reason="it has started this process")
def test_waiting_nodes_on_a_network_of_their_own():
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    unshare = ["unshare", *user, "--net", "--uts", "sh", "-c"]
    if subprocess.run([*unshare, NETWORK], capture_output=True).returncode != 0:
        pytest.skip("cannot create a network namespace")
    tests = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rs", __file__]
    done = subprocess.run(
        [*unshare, f'{NETWORK} && exec "$@"', "sh", *tests], env={**os.environ, INSIDE: "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout + done.stderr


@pytest.fixture
def node(tmp_path):
    """A node with an id that announces itself."""
    config = tmp_path / "node.toml"
    config.write_text(f"state_dir = '{tmp_path / 'node'}'")
    with stage.MeowingNode("Tom", host="0.0.0.0", more=["--insecure", "--config", config]) as node:
        node.config = config
        yield node


def waiting(hub):
    return hub.get("/api/v1/nodes")["waiting"]


def card_of(page):
    card = page.get_by_role("region", name="Nodes waiting to be admitted")
    expect(card).to_be_visible(timeout=FOUND_MS)
    return card


@inside
def test_node_that_waits_is_shown_and_heard_once_it_is_admitted(node, open_page, tmp_path):
    with stage.Hub(tmp_path / "hub", discover=True) as hub:
        page = open_page(f"{hub.url}/", reduced_motion="reduce")
        expect(page.locator(".help")).to_contain_text("Such a node appears on this page")
        card = card_of(page)
        found = waiting(hub)[0]
        expect(card.get_by_role("heading", name="Tom")).to_be_visible()
        expect(card).to_contain_text(f"attic.local:{node.port}")
        expect(card).to_contain_text(f"10.99.0.5:{node.port}")
        # What the device says of itself.
        shown = subprocess.run([BINARIES / "cat-node", "identity", "show", "--config", node.config], capture_output=True, text=True)
        digits = found["node_id"][:16]
        assert digits in shown.stdout, shown
        expect(card.locator("code").first).to_have_text(digits)
        page.evaluate(AXE.read_text())
        wrong = page.evaluate("axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] })")["violations"]
        assert [(rule["id"], [one["html"] for one in rule["nodes"]]) for rule in wrong] == []
        if os.environ.get("MEOWLINK_SCREENSHOTS"):
            for name, size in (("desktop", stage.DESKTOP), ("phone", stage.PHONE)):
                page.set_viewport_size(size)
                page.screenshot(path=f"{os.environ['MEOWLINK_SCREENSHOTS']}/waiting-{name}.png", full_page=True)
        page.set_viewport_size(stage.PHONE)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # By keyboard.
        admit = card.get_by_role("button", name=f"Admit Tom (attic.local:{node.port})")
        admit.focus()
        page.keyboard.press("Enter")
        expect(card).to_be_hidden()
        assert page.evaluate("document.activeElement.id") == "main", "the focus is not lost"
        expect(page.locator("#say")).to_contain_text("Admitted: Tom")
        expect(page.locator("article.node .state")).to_have_text("Live")
        assert waiting(hub) == []
        # Closed before the hub stops, because requests would fail.
        page.context.close()


@inside
def test_node_is_refused_after_a_question(node, open_page, tmp_path):
    with stage.Hub(tmp_path / "hub", discover=True) as hub:
        page = open_page(f"{hub.url}/")
        card = card_of(page)
        refuse = card.get_by_role("button", name="Refuse Tom")
        refuse.click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(refuse).to_be_focused()
        assert len(waiting(hub)) == 1
        refuse.click()
        page.get_by_role("dialog").get_by_role("button", name="Refuse").click()
        expect(card).to_be_hidden()
        expect(page.get_by_role("dialog")).to_have_count(0)
        until("it waits no more", lambda: waiting(hub) == [])
        page.reload()
        expect(page.locator(".help")).to_be_visible()
        expect(card).to_be_hidden()
        assert all(not one["discovered"] for one in hub.get("/api/v1/nodes")["nodes"])
        page.context.close()


@inside
def test_closed_node_is_paired_by_the_code_that_it_shows(open_page, tmp_path):
    state = tmp_path / "node"
    closed = stage.MeowingNode("Tom", host="0.0.0.0", more=["--state-dir", state])
    with closed as node, stage.Hub(tmp_path / "hub", discover=True) as hub:
        page = open_page(f"{hub.url}/", reduced_motion="reduce")
        card = card_of(page)
        expect(card.get_by_role("heading", name=f"attic.local:{node.port} wants to join")).to_be_visible()
        expect(card.get_by_role("button", name="Admit")).to_have_count(0)
        page.evaluate(AXE.read_text())
        wrong = page.evaluate("axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] })")["violations"]
        assert [(rule["id"], [one["html"] for one in rule["nodes"]]) for rule in wrong] == []
        page.set_viewport_size(stage.PHONE)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        field = card.get_by_label("Code")
        field.fill("0000-0000")
        card.get_by_role("button", name="Pair with").click()
        expect(card.get_by_role("alert")).to_contain_text("no pairing code is open")
        expect(field).to_be_focused()
        assert any("409" in text for text in open_page.wrong)
        open_page.wrong.clear()
        shown = subprocess.run([BINARIES / "cat-node", "pair", "--state-dir", state], capture_output=True, text=True, check=True)
        field.fill(shown.stdout.splitlines()[0].lower())
        # The node is heard at once, and its first meow is announced in the same place.
        page.evaluate(f"() => {{ {KEEP_SAID} }}")
        page.keyboard.press("Enter")
        expect(card).to_be_hidden()
        assert page.evaluate("document.activeElement.id") == "main", "the focus is not lost"
        page.wait_for_function("said.some((text) => text.includes('Paired: attic.local'))")
        expect(page.locator("article.node .state")).to_have_text("Live")
        page.context.close()
