"""Stored events: lists, filters, the heat map and labels; and accessibility, themes and languages."""

import collections
import concurrent.futures
import contextlib
import csv
import datetime
import json
import pathlib
import re
import urllib.request
import zipfile
import zoneinfo

import axe_playwright_python
import cat_pb2_grpc
import grpc
import pytest
from conftest import EVIL
from playwright.sync_api import expect

import browser as stage
from meowlink import until

AXE = pathlib.Path(axe_playwright_python.__file__).parent / "axe.min.js"

# Each view, and an element that is there once it has been drawn.
VIEWS = {"#/": "li.event", "#/events": "li.event", "#/rhythm": ".hour a", "#/events/1": ".sound img", "#/privacy": ".scrolls td"}


def shown(page):
    """Returns the events of the list, from the top."""
    # In one call: the page may redraw the list between two.
    return page.locator("li.event").evaluate_all("rows => rows.map((row) => Number(row.dataset.id))")


def expect_events(page, events):
    """Waits until the list has these events and no others."""
    wanted = [event["id"] for event in events]
    until(f"the list shows {wanted}", lambda: shown(page) == wanted)


def test_no_view_is_wider_than_the_screen(settled, open_page, size):
    page = open_page(f"{settled.url}/", size)
    for view, drawn in VIEWS.items():
        page.goto(f"{settled.url}/{view}")
        page.locator(drawn).first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_every_view(settled, open_page, size, scheme):
    page = open_page(f"{settled.url}/", size, color_scheme=scheme, reduced_motion="reduce")
    broken = []
    for view, drawn in VIEWS.items():
        page.goto(f"{settled.url}/{view}")
        page.locator(drawn).first.wait_for()
        page.evaluate(AXE.read_text())
        found = page.evaluate("axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] })")
        broken += [(view, rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]]
    assert broken == []


def test_name_of_a_cat_is_text(settled, open_page):
    page = open_page(f"{settled.url}/")
    expect(page.locator("article.node h2")).to_have_text(EVIL)
    expect(page.locator("li.event .cat").first).to_have_text(EVIL)
    page.goto(f"{settled.url}/#/events/1")
    expect(page.locator("h1")).to_contain_text(EVIL)
    page.goto(f"{settled.url}/#/events")
    page.locator("li.event").first.wait_for()
    assert page.locator("main img[src='x']").count() == 0
    assert page.evaluate("window.pwned") is None


def test_heat_map_and_totals_are_those_of_the_api(settled, open_page, size):
    page = open_page(f"{settled.url}/#/rhythm", size)
    zone = zoneinfo.ZoneInfo("Asia/Kathmandu")
    expected = collections.Counter()
    for event in settled.events():
        # Kathmandu is 5:45 h ahead of UTC, so its hours begin at a quarter past in UTC.
        at = datetime.datetime.fromisoformat(event["started_at"][:19] + "+00:00").astimezone(zone)
        expected[at.date().isoformat(), at.hour] += event["counts_as"] != "not_a_cat"
    page.locator(".hour a").first.wait_for()
    # In one call: the page redraws the map when its connection to the hub opens.
    cells = page.locator("td.hour").evaluate_all(
        "cells => cells.map((cell) => [cell.closest('tr').dataset.date, Number(cell.dataset.hour), Number(cell.dataset.count)])"
    )
    assert len(cells) == 7 * 24
    drawn = collections.Counter({(date, hour): count for date, hour, count in cells})
    assert +drawn == +expected
    total = settled.get("/api/v1/counts?by=day&tz=Asia/Kathmandu")["total"]
    expect(page.locator(".totals .all dd")).to_have_text(str(total))
    # A click on an hour shows its events.
    (date, hour), count = +expected and expected.most_common(1)[0]
    page.locator(f"tr[data-date='{date}'] td[data-hour='{hour}'] a").click()
    page.locator("li.event").first.wait_for()
    until("the events of that hour", lambda: len(shown(page)) == count)


def test_own_labels_are_made_used_and_removed(settled, open_page):
    page = open_page(f"{settled.url}/#/labels")
    name = "<b>let me out</b>"
    page.get_by_label("New label").fill(name)
    page.get_by_role("button", name="Add").click()
    expect(page.locator(".own-labels li")).to_have_count(1)
    page.goto(f"{settled.url}/#/events/1")
    page.get_by_role("button", name=name).click()
    expect(page.locator("h1 .tag")).to_contain_text(name)
    page.goto(f"{settled.url}/#/labels")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Remove").click()
    expect(page.locator(".own-labels li")).to_have_count(0)
    assert settled.get("/api/v1/events/1")["label"] is None


def test_owner_says_which_cat_it_was_and_the_filter_follows(settled, open_page):
    name = "<b>Ada</b>"
    page = open_page(f"{settled.url}/#/events/1")
    cat = lambda: settled.get("/api/v1/events/1")["cat"]
    page.get_by_label("Which cat?").fill(name)
    page.get_by_role("button", name="Save").click()
    expect(page.locator("h1")).to_contain_text(name)
    expect(page.get_by_text(f"You said that it was {name}. The cat of the node is {EVIL}.")).to_be_visible()
    assert cat() == name
    # The name is offered for other events of the node, and for the filter, which follows it.
    page.goto(f"{settled.url}/#/events/2")
    expect(page.locator("#names option").nth(1)).to_have_attribute("value", name)
    page.goto(f"{settled.url}/#/events")
    expect(page.locator("#cats option").nth(1)).to_have_attribute("value", name)
    page.get_by_label("Cat", exact=True).fill(name)
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("li.event")).to_have_count(1)
    expect(page.locator("li.event .cat")).to_have_text(name)
    page.goto(f"{settled.url}/#/events/1")
    # What is typed survives a label from elsewhere.
    page.get_by_label("Which cat?").fill("Zo")
    page.locator(".choice.brushing").click()
    page.locator(".choice.brushing[aria-pressed=true]").click()
    expect(page.locator(".choice[aria-pressed=true]")).to_have_count(0)
    expect(page.get_by_label("Which cat?")).to_have_value("Zo")
    # News does not interrupt who is typing.
    page.get_by_label("Which cat?").press("End")
    page.evaluate("""() => fetch('api/v1/events/1/label', {
      method: 'PUT', headers: { 'content-type': 'application/json' }, body: '{"label":"brushing"}',
    })""")
    expect(page.locator(".choice.brushing[aria-pressed=true]")).to_have_count(1)
    expect(page.get_by_label("Which cat?")).to_be_focused()
    page.keyboard.type("ë")
    expect(page.get_by_label("Which cat?")).to_have_value("Zoë")
    page.locator(".choice.brushing[aria-pressed=true]").click()
    expect(page.locator(".choice[aria-pressed=true]")).to_have_count(0)
    page.get_by_role("button", name="Remove the name").click()
    expect(page.locator("h1")).to_contain_text(EVIL)
    expect(page.get_by_role("button", name="Remove the name")).to_have_count(0)
    assert cat() == EVIL


def test_suggested_label_has_a_question_mark_and_its_probability(settled, open_page):
    event = settled.get("/api/v1/events/1")
    first = {**event["context"], "label": "brushing"}
    guess = {**event, "suggested_label": "<b>out</b>", "suggested_probability": 0.87, "first_context": first, "counts_as": "uncertain"}
    page = open_page(f"{settled.url}/#/events")
    page.route("**/api/v1/events/1", lambda route: route.fulfill(json=guess))
    page.goto(f"{settled.url}/#/events/1")
    expect(page.locator("h1 .tag")).to_have_text("<b>out</b>?")
    expect(page.get_by_text("It sounds like your label “<b>out</b>” (87%).")).to_be_visible()
    expect(page.locator(".choice[aria-pressed=true]")).to_have_count(0)


def test_page_says_how_many_events_a_label_changed_and_undoes_it(settled, open_page):
    page = open_page(f"{settled.url}/#/events/1")
    event = settled.get("/api/v1/events/1")
    labelled = {**event, "label": "brushing", "labelled_at": event["started_at"], "changed": 12}
    asked = []

    def undo(route):
        asked.append(route.request.method)
        route.fulfill(json={"changed": 11})

    page.route("**/api/v1/events/1/label", lambda route: route.fulfill(json={**labelled, "undo": "/api/v1/reevaluations/3/undo"}))
    page.route("**/api/v1/reevaluations/3/undo", undo)
    page.locator(".choice.brushing").click()
    expect(page.get_by_text("12 other events changed")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("11 events changed back.")).to_be_visible()
    assert asked == ["POST"]


def test_page_says_how_many_events_a_removed_label_changed_and_undoes_it(settled, open_page):
    page = open_page(f"{settled.url}/#/events")
    asked = []

    def undo(route):
        number = route.request.url.split("/")[-2]
        asked.append(number)
        if number == "3":
            route.fulfill(status=404, json={"error": {"code": "not_found", "message": "it was undone before"}})
        elif asked == ["3", "4"]:
            route.abort()
        else:
            route.fulfill(json={"changed": 2})

    label = {"id": 1, "name": "let me out", "events": 5, "suggested": 0}
    page.route("**/api/v1/own-labels", lambda route: route.fulfill(json={"own_labels": [label]}))
    paths = [f"/api/v1/reevaluations/{number}/undo" for number in (3, 4)]
    page.route("**/api/v1/own-labels/1", lambda route: route.fulfill(json={"changed": 5, "undo": paths}))
    page.route("**/api/v1/reevaluations/*/undo", undo)
    page.goto(f"{settled.url}/#/labels")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("5 events changed")).to_be_visible()
    # The events of one cat changed again since. Those of the other are changed back by a second try.
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("the hub is not responding")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("2 events changed back.")).to_be_visible()
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)
    assert asked == ["3", "4", "4"]
    # The browser reports the two requests that failed, once as errors and once as messages of its console.
    assert len(open_page.wrong) == 4, open_page.wrong
    open_page.wrong.clear()


def test_filters_show_what_the_api_says(settled, open_page):
    page = open_page(f"{settled.url}/#/events")
    events = settled.events()
    expect_events(page, events)
    # The median score, so that some events are left out.
    middle = sorted(event["score"] for event in events)[len(events) // 2]
    percent = int(middle * 100)
    page.get_by_label("Minimum cat score (%)").fill(str(percent))
    page.get_by_role("button", name="Apply").click()
    expect_events(page, [event for event in events if event["score"] >= percent / 100])

    page.get_by_role("link", name="Clear", exact=True).click()
    page.get_by_label("Context").select_option(label="Being brushed")
    page.get_by_role("button", name="Apply").click()
    expect_events(page, [event for event in events if event["counts_as"] == "brushing"])

    page.goto(f"{settled.url}/#/events?cat=Nobody")
    expect(page.locator("main [role='status']")).to_have_text("No events match these filters.")
    page.get_by_label("Cat", exact=True).fill(EVIL)
    page.get_by_role("button", name="Apply").click()
    expect_events(page, events)
    # The address can be bookmarked and opened again.
    assert "cat=" in page.url
    page.reload()
    expect(page.get_by_label("Cat", exact=True)).to_have_value(EVIL)
    expect_events(page, events)

    page.get_by_role("link", name="Clear", exact=True).click()
    page.get_by_label("From", exact=True).fill("2100-01-01T00:00")
    page.get_by_role("button", name="Apply").click()
    expect_events(page, [])
    page.goto(f"{settled.url}/#/events")
    page.get_by_label("To", exact=True).fill("2100-01-01T00:00")
    page.get_by_role("button", name="Apply").click()
    expect_events(page, events)


def test_downloads_have_the_filters_of_the_list(settled, open_page, tmp_path):
    wanted = settled.events()[0]["counts_as"]
    page = open_page(f"{settled.url}/#/events?context={wanted}")
    count = sum(event["counts_as"] == wanted for event in settled.events())
    until("the list is filtered", lambda: len(shown(page)) == count)
    page.get_by_text("Download", exact=True).click()
    files = {}
    for name in ["as CSV", "as JSON Lines", "as ZIP"]:
        with page.expect_download() as download:
            page.locator(".downloads a", has_text=name).first.click()
        files[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[name])
    assert {file.name for file in files.values()} == {"events.csv", "events.jsonl", "events.zip"}
    assert len(files["as JSON Lines"].read_text().splitlines()) == count
    with files["as CSV"].open(newline="") as table:
        assert len(list(csv.DictReader(table))) == count
    with zipfile.ZipFile(files["as ZIP"]) as archive:
        assert archive.testzip() is None
        assert sum(name.endswith(".wav") for name in archive.namelist()) == count


def test_owner_labels_an_event_and_removes_the_label(settled, open_page):
    event = settled.events("limit=1")[0]["id"]
    page = open_page(f"{settled.url}/#/events/{event}")
    # Another page shows the label at once.
    other = open_page(f"{settled.url}/#/")
    label = lambda: settled.get(f"/api/v1/events/{event}")["label"]
    page.get_by_role("button", name="Not a cat").click()
    expect(page.locator("h1 .tag")).to_contain_text("Not a cat")
    assert label() == "not_a_cat"
    expect(other.locator(f"li[data-id='{event}'] .tag")).to_contain_text("Not a cat")
    page.get_by_role("button", name="Being brushed").click()
    expect(page.locator("h1 .tag")).to_contain_text("Being brushed")
    assert label() == "brushing"
    pressed = page.get_by_role("button", name="Being brushed", pressed=True)
    expect(pressed).to_be_focused()
    pressed.click()
    expect(page.locator(".choice[aria-pressed='true']")).to_have_count(0)
    assert label() is None
    words = [one["label"] for one in settled.get("/api/v1/labels?limit=500")["labels"] if one["event"]["id"] == event]
    assert words == ["not_a_cat", "brushing", None]


def test_sounds_that_were_not_announced_are_one_line_and_can_be_announced_again(settled, open_page):
    events = settled.events()
    taught = [event["id"] for event in events[-2:]]
    for event in taught:
        body = json.dumps({"label": "not_a_cat"}).encode()
        request = urllib.request.Request(f"{settled.url}/api/v1/events/{event}/label", body, method="PUT")
        request.add_header("Content-Type", "application/json")
        urllib.request.urlopen(request).close()
    aside = [{**event, "like_false_alarms": taught} for event in events[:3]]

    page = open_page("about:blank")
    answer = lambda route: route.fulfill(json={"events": aside, "next_cursor": None})
    page.route(re.compile(r"/api/v1/events\?announced=false"), answer)
    page.goto(f"{settled.url}/")
    line = page.get_by_role("region", name="Not announced")
    expect(line).to_contain_text("3 sounds like ones you marked “Not a cat” were not announced this week.")
    expect(line.locator("li.event")).to_have_count(3)
    expect(line.locator("li.event").first).to_be_hidden()
    line.get_by_role("button", name="Show").click()
    expect(line.locator("li.event").first).to_contain_text("not announced")

    line.get_by_role("button", name="Announce again").click()
    page.get_by_role("button", name="Cancel").click()
    assert [settled.get(f"/api/v1/events/{event}")["label"] for event in taught] == ["not_a_cat"] * 2
    line.get_by_role("button", name="Announce again").click()
    expect(page.get_by_role("dialog")).to_contain_text("from 2 events")
    page.get_by_role("button", name="Remove the labels").click()
    expect(line).to_contain_text("Later sounds like these are announced again.")
    assert [settled.get(f"/api/v1/events/{event}")["label"] for event in taught] == [None, None]


def test_sounds_below_the_min_score_of_their_node_are_not_announced_either(settled, open_page):
    low, like = ({**event, "below_min_score": 0.9} for event in settled.events()[:2])
    like["like_false_alarms"] = [low["id"]]

    page = open_page("about:blank")
    aside = [low, like]
    page.route(re.compile(r"/api/v1/events\?announced=false"), lambda route: route.fulfill(json={"events": aside, "next_cursor": None}))
    page.route(f"**/api/v1/events/{low['id']}", lambda route: route.fulfill(json=low))
    page.goto(f"{settled.url}/")
    line = page.get_by_role("region", name="Not announced")
    expect(line).to_contain_text("2 sounds were not announced this week.")
    expect(line.get_by_role("button", name="Announce again")).to_be_visible()
    # What scored too low has no labels behind it.
    aside = [low]
    page.reload()
    expect(line).to_contain_text("1 sound was not announced this week.")
    expect(line.get_by_role("button", name="Announce again")).to_be_hidden()
    line.get_by_role("button", name="Show").click()
    expect(line.locator("li.event").first).to_contain_text("not announced")
    page.goto(f"{settled.url}/#/events/{low['id']}")
    expect(page.locator("main")).to_contain_text("Not announced: its score is below 0.9, the min_score of its node.")


def test_details_of_a_node_preview_a_min_score(settled, open_page, size):
    node = settled.get("/api/v1/nodes")["nodes"][0]["url"]
    preview = lambda score: settled.get(f"/api/v1/nodes/score-preview?node={node}&min_score={score}")
    page = open_page(f"{settled.url}/", size)
    page.locator("article.node summary").click()
    said = page.locator("article.node output")
    for score in (0.8, 0, 1):
        page.get_by_label("min_score to try").fill(str(score))
        told = preview(score)
        now, instead = told["events"], told["events_at_present"]
        assert instead > 0
        events = "1 event" if now == 1 else f"{now} events"
        expect(said).to_contain_text(f"With {score} you would have had {events} last week instead of {instead}.")
    assert (preview(0)["events"], preview(1)["events"]) == (instead, now)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_event_is_deleted_after_a_question(settled, open_page):
    event = settled.events("limit=1")[0]["id"]
    page = open_page(f"{settled.url}/#/events/{event}")
    page.get_by_role("button", name="Delete event").click()
    page.get_by_role("button", name="Cancel").click()
    assert settled.get(f"/api/v1/events/{event}")["id"] == event
    page.get_by_role("button", name="Delete event").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.wait_for_url("**/#/events")
    expect_events(page, settled.events())
    assert event not in shown(page)


def test_privacy_shows_the_settings_and_asks_before_it_deletes(settled, open_page):
    page = open_page(f"{settled.url}/#/privacy")
    expect(page.locator("h1")).to_have_text("Privacy")
    said = settled.get("/api/v1/privacy")
    expect(page.get_by_role("main")).to_contain_text(said["data_dir"])
    expect(page.get_by_role("row").filter(has_text="Recordings").first).to_contain_text("90 days")
    before = settled.events()

    def asked(accept):
        questions = []

        def answer(dialog):
            questions.append(dialog.message)
            dialog.accept() if accept else dialog.dismiss()

        page.once("dialog", answer)
        page.get_by_role("button", name="Delete…").click()
        # Questions arrive only while the page is waited for.
        until("the page asks", lambda: page.wait_for_timeout(20) or questions)
        return questions[0]

    # The question names the cat as text and counts. Without a yes, nothing happens.
    page.get_by_label("About this cat").fill(EVIL)
    question = asked(accept=False)
    assert question.startswith(f"Delete everything about {EVIL}? {len(before)} events, "), question
    assert settled.events() == before and settled.get("/api/v1/privacy")["deletions"] == []

    page.get_by_label("About this cat").fill("")
    page.get_by_label("Before this day").fill("2001-01-01")
    assert "Delete everything before" in asked(accept=True)
    expect(page.get_by_role("listitem")).to_contain_text("Deleted: 0 events")
    assert settled.events() == before
    done = settled.get("/api/v1/privacy")["deletions"][0]
    assert done["state"] == "done" and done["before"] == "2000-12-31T18:15:00Z", "midnight by the viewer's clock"


def test_keyboard_alone_is_enough(settled, open_page):
    page = open_page(f"{settled.url}/#/events")
    page.locator("li.event").first.wait_for()
    focused = lambda: page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id")
    page.keyboard.press("Tab")
    assert focused() == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    first = page.locator("li.event a").first
    for _ in range(30):
        page.keyboard.press("Tab")
        if first.evaluate("(link) => link === document.activeElement"):
            break
    outline = first.evaluate("(link) => getComputedStyle(link).outlineStyle")
    assert outline == "solid", "the focus is seen"
    page.keyboard.press("Enter")
    choice = page.locator(".choice.isolation")
    choice.wait_for()
    for _ in range(30):
        page.keyboard.press("Tab")
        if choice.evaluate("(button) => button === document.activeElement"):
            break
    page.keyboard.press("Space")
    expect(choice).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Delete event").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.locator(".choice[aria-pressed='true']").click()
    # The label is removed before another test looks.
    expect(page.locator(".choice[aria-pressed='true']")).to_have_count(0)


def test_colours_are_the_systems_until_the_viewer_chooses(settled, open_page):
    page = open_page(f"{settled.url}/", color_scheme="dark")
    paper = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = paper()
    page.get_by_label("Theme").select_option("light")
    light = paper()
    assert dark != light
    page.reload()
    assert paper() == light
    page.get_by_label("Theme").select_option("auto")
    assert paper() == dark


@pytest.mark.parametrize(
    ("locale", "date"),
    [
        # Not the page's language: British dates, with the 24-hour or 12-hour clock of that language.
        ("de-DE", "{at:%A},? {at.day} {at:%B} {at.year} at {at:%H:%M:%S}"),
        ("hi-IN", r"{at:%A},? {at.day} {at:%B} {at.year} at {hour}:{at:%M:%S}\s{half}"),
        ("en-US", r"{at:%A}, {at:%B} {at.day}, {at.year} at {hour}:{at:%M:%S}\s{half}"),
    ],
)
def test_dates_and_numbers_are_english_in_every_browser(settled, open_page, locale, date):
    page = open_page(f"{settled.url}/#/events/1", locale=locale)
    at = datetime.datetime.fromisoformat(settled.get("/api/v1/events/1")["started_at"][:19] + "+00:00")
    at = at.astimezone(zoneinfo.ZoneInfo("Asia/Kathmandu"))
    expected = date.format(at=at, hour=(at.hour - 1) % 12 + 1, half=f"{at:%p}")
    expect(page.locator("main time")).to_have_text(re.compile(f"^{expected}$", re.IGNORECASE))
    page.goto(f"{settled.url}/#/")
    expect(page.locator(".facts")).to_have_text(re.compile(r"^Cat last heard \d+ (second|minute|hour)s? ago$"))
    expect(page.locator(".score").first).to_have_text(re.compile(r"^cat score \d+%$"))


def test_page_says_how_to_begin_when_there_is_no_node_yet(open_page, size, tmp_path):
    with stage.Hub(tmp_path, "http://127.0.0.1:1") as hub:
        page = open_page(f"{hub.url}/", size)
        expect(page.locator(".help")).to_contain_text("cat-node serve --cat Tom")
        expect(page.locator(".help")).to_contain_text("sudo hub pair CODE ADDRESS")
        # Closed before the hub stops, because requests would fail.
        page.context.close()


def test_page_gives_no_first_advice_when_a_node_that_was_heard_is_away(settled, open_page, size):
    page = open_page(f"{settled.url}/", size)
    expect(page.locator("article.node .state")).to_have_text("Away")
    expect(page.locator("article.node .problem").first).to_contain_text("cannot be reached")
    expect(page.locator(".help")).to_contain_text("Your cat-node is not reachable")
    expect(page.locator(".help")).not_to_contain_text("serve")


def test_cards_are_in_the_order_of_the_config_at_every_load(open_page, tmp_path):
    nodes = [stage.MeowingNode(cat) for cat in ("Tom", "Ada", "Kim", "Leo")]
    with contextlib.ExitStack() as running:
        urls = [running.enter_context(node).url for node in nodes]
        hub = running.enter_context(stage.Hub(tmp_path, *urls))
        page = open_page(f"{hub.url}/")
        order = "cards => cards.map((card) => card.dataset.node)"
        for _ in range(6):
            expect(page.locator("article.node.card")).to_have_count(4)
            assert page.locator("article.node.card").evaluate_all(order) == urls
            page.reload()
        page.context.close()


def test_cat_of_the_original_system_answers_and_has_no_audio(open_page, tmp_path):
    # It knows neither Describe nor Listen.
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    cat_pb2_grpc.add_catServicer_to_server(cat_pb2_grpc.catServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with stage.Hub(tmp_path, f"Tom=http://127.0.0.1:{port}") as hub:
        page = open_page(f"{hub.url}/")
        node = page.locator("article.node")
        expect(node.locator(".state")).to_have_text("No audio")
        # It is no fault, so it is not shown as one.
        expect(node.get_by_text("This node answers, but its program does not stream audio.")).to_have_class("faint")
        expect(node.locator(".problem:visible")).to_have_count(0)
        expect(page.locator(".help")).to_have_count(0)
        page.context.close()
    server.stop(None)


def test_errors_are_shown_as_sentences(settled, open_page):
    page = open_page(f"{settled.url}/#/events/999999")
    expect(page.get_by_role("alert")).to_have_text("Event 999999 does not exist.")
    page.goto(f"{settled.url}/#/nothing")
    expect(page.get_by_role("alert")).to_have_text("There is no page at /nothing.")
    # The test has caused these two itself. They may be reported after the page shows the error.
    expected = lambda: [one for one in open_page.wrong if "999999" in one or "404 (Not Found)" in one]
    until("the browser has reported both", lambda: page.evaluate("true") and len(expected()) == 2)
    for one in expected():
        open_page.wrong.remove(one)


def test_page_recovers_when_the_hub_comes_back(open_page, tmp_path):
    with stage.MeowingNode("Tom") as node:
        with stage.Hub(tmp_path, node.url) as hub:
            hub.wait_for_events(1)
            page = open_page(f"{hub.url}/")
            page.locator("li.event").first.wait_for()
            hub.stop()
        expect(page.locator("#offline")).to_have_text("The hub is not responding. Reconnecting…")
        expect(page.locator("article.node .state")).to_have_text("Unknown")
        # Only the banner says so.
        expect(page.locator(".unreachable")).not_to_have_count(0)
        expect(page.locator(".unreachable").first).to_be_hidden()
        with stage.Hub(tmp_path, node.url, http=hub.http) as again:
            expect(page.locator("#offline")).to_be_hidden()
            expect(page.locator("article.node .state")).to_have_text("Live")
            # The events of the meantime are there too.
            known = len(again.events())
            until("all events are on the page", lambda: len(shown(page)) >= known)
            page.context.close()
    # Requests fail while the hub is away.
    open_page.wrong.clear()


def test_undelivered_notifications_are_listed_and_retried(open_page, tmp_path):
    config = tmp_path / "hub.toml"
    config.write_text("""
        notices.max_tries = 1
        [[owners]]
        name = "Anna"
        animals = ["Tom"]
        cooldown_s = 3600
        [[owners.channels]]
        type = "webhook"
        url = "http://127.0.0.1:1/"
    """)
    with stage.MeowingNode("Tom") as node, stage.Hub(tmp_path / "data", node.url, config=config) as hub:
        dead = lambda: hub.get("/api/v1/notices?status=dead")["notices"]
        notice = until("a notice is given up", dead, 120)[0]
        page = open_page(f"{hub.url}/")
        undelivered = page.get_by_role("region", name="Undelivered notifications")
        # The section is one line until it is opened.
        expect(undelivered.get_by_role("button", name="Retry")).to_be_hidden()
        undelivered.get_by_text("Undelivered notifications").click()
        expect(undelivered).to_contain_text("To Anna (webhook), about Tom")
        expect(undelivered.get_by_role("link", name="Tom")).to_have_attribute("href", f"#/events/{notice['event_id']}")
        with page.expect_response(f"**/api/v1/notices/{notice['id']}/retry") as answered:
            undelivered.get_by_role("button", name="Retry").click()
        assert answered.value.status == 200
        ended = lambda: [one for one in dead() if one["id"] == notice["id"] and one["ended_at"] != notice["ended_at"]]
        until("it is given up again", ended, 120)
        # Closed before the hub stops, because requests would fail.
        page.context.close()


def test_page_works_from_the_hub_alone(settled, open_page):
    page = open_page(f"{settled.url}/")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    for view, drawn in VIEWS.items():
        page.goto(f"{settled.url}/{view}")
        page.locator(drawn).first.wait_for()
    assert asked and all(url.startswith(settled.url) for url in asked)
    request = urllib.request.Request(settled.url, headers={"Accept": "text/html"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    with urllib.request.urlopen(settled.url, timeout=30) as answer:
        assert answer.read().startswith(b"Meowlink hub")
