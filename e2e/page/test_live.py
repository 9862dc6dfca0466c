"""Live updates: a node meows while the page is open."""

import contextlib
import json
import re
import urllib.error
import urllib.parse
import urllib.request

import cat_pb2
import cat_pb2_grpc
import grpc
import pytest
from browser import becomes
from playwright.sync_api import expect

from meowlink import until

# A clip as a browser decodes it, as 16-bit samples.
DECODED = """async (url) => {
  const file = await (await fetch(url)).arrayBuffer();
  const sound = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(file);
  return { rate: sound.sampleRate, samples: Array.from(sound.getChannelData(0), (x) => Math.round(x * 32768)) };
}"""

# The text of the page for each verdict of an analysis.
SOUNDS = {
    "Hungry": "Tom sounds hungry",
    "Good": "Tom sounds content",
    "Bad": "Tom sounds distressed",
    "Smelly": "It is unclear what Tom wants",
}


def test_event_comes_onto_the_page_by_itself(live, open_page, size):
    page = open_page(f"{live.url}/", size)
    page.locator("li.event").first.wait_for()
    page.evaluate("""() => {
      window.seen = {};
      new MutationObserver(() => document.querySelectorAll('li.event').forEach((row) => {
        window.seen[row.dataset.id] = true;
      })).observe(document.querySelector('ol.events'), { childList: true });
    }""")
    known = live.events("limit=1")[0]["id"]
    # Nothing but the live updates brings them: the page reads the list once for each connection.
    newer = lambda: [event["id"] for event in live.events("limit=5") if event["id"] > known]
    until("five more events", lambda: len(newer()) == 5, 120)
    stored = newer()
    becomes(page, "(ids) => ids.every((id) => window.seen[id])", stored)
    newest = page.locator("li.event").first
    expect(newest.locator(".cat")).to_have_text("Tom")
    expect(newest.locator(".score")).to_have_text(re.compile(r"\d+%"))
    expect(newest.locator("time")).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))


def test_node_is_shown_as_it_hears(live, open_page, size):
    page = open_page(f"{live.url}/", size)
    card = page.locator("article.node")
    expect(card.locator("h2")).to_have_text("Tom")
    expect(card.locator(".state")).to_have_text("Live")
    for name in ("Level", "Cat"):
        meter = card.get_by_role("meter", name=name)
        values = set()

        def moves(meter=meter, values=values):
            values.add(meter.get_attribute("aria-valuenow"))
            return len(values) > 2

        until(f"{name} moves", moves)
    coloured = """(canvas) => {
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((value, n) => n % 4 === 0 && value > 100).length;
    }"""
    canvas = card.locator("canvas").element_handle()
    until("a meow is on the spectrogram", lambda: canvas.evaluate(coloured) > 200)
    expect(card.locator(".facts")).to_contain_text("Streaming")


def test_clip_plays_and_is_what_the_node_heard(live, open_page):
    event = live.events("limit=1")[0]
    page = open_page(f"{live.url}/#/events/{event['id']}")
    expect(page.locator("h1")).to_contain_text("Tom")
    heard = page.evaluate(DECODED, event["clip"]["url"])
    assert heard["rate"] == 16_000
    first = event["start_sample"] - round(event["clip"]["event_start_s"] * 16_000)
    assert heard["samples"] == samples_of(live.node, event["boot_id"], first, len(heard["samples"]))
    assert max(heard["samples"]) > 500

    audio = page.locator("audio")
    audio.evaluate("(audio) => audio.play()")
    becomes(page, "document.querySelector('audio').ended")
    assert audio.evaluate("(audio) => audio.currentTime") == pytest.approx(event["clip"]["duration_s"], abs=0.1)


def samples_of(node, boot_id, first, count):
    """Returns samples that are still on the tape of a node."""
    cursor = cat_pb2.Cursor(boot_id=int(boot_id, 16), sequence=first // 320)
    audio, start = b"", first // 320 * 320
    with grpc.insecure_channel(f"127.0.0.1:{node.port}") as channel:
        stream = cat_pb2_grpc.catStub(channel).Listen(getattr(cat_pb2, "ListenRequest")(**{"from": cursor}), timeout=60)
        for message in stream:
            assert message.WhichOneof("event") == "frame", message
            audio += message.frame.audio
            if len(audio) >= 2 * (first - start + count):
                break
        stream.cancel()
    wanted = audio[2 * (first - start) : 2 * (first - start + count)]
    return list(memoryview(wanted).cast("h"))


def test_row_plays_one_clip_at_a_time(live, open_page):
    page = open_page(f"{live.url}/#/events")
    # A clip lasts two seconds, in which a busy machine may not come to look: the first one is repeated.
    page.evaluate("""() => {
      window.repeats = true;
      const { play } = HTMLMediaElement.prototype;
      HTMLMediaElement.prototype.play = function () {
        this.loop = window.repeats;
        return play.call(this);
      };
    }""")
    ids = [event["id"] for event in live.events("limit=2")]
    buttons = [page.locator(f"li[data-id='{one}'] button.play") for one in ids]
    buttons[0].click()
    expect(buttons[0]).to_have_attribute("aria-label", re.compile("^Stop Tom"))
    page.evaluate("window.repeats = false")
    buttons[1].click()
    expect(buttons[0]).to_have_attribute("aria-label", re.compile("^Play Tom"))
    # It ends by itself.
    expect(buttons[1]).to_have_attribute("aria-label", re.compile("^Play Tom"), timeout=60_000)


def test_microphone_can_be_heard_live(live, open_page):
    page = open_page(f"{live.url}/")
    button = page.get_by_role("button", name="Listen live")
    button.click()
    becomes(page, "document.querySelector('article audio').currentTime > 2")
    # The audio is not silence.
    page.evaluate("""() => {
      const context = new AudioContext();
      window.ear = new AnalyserNode(context);
      new MediaElementAudioSourceNode(context, { mediaElement: document.querySelector('article audio') })
        .connect(window.ear).connect(context.destination);
      context.resume();
    }""")
    becomes(page, """() => {
      const samples = new Float32Array(2048);
      window.ear.getFloatTimeDomainData(samples);
      return Math.max(...samples) > 0.02;
    }""")
    stop = page.get_by_role("button", name="Stop listening")
    expect(stop).to_have_attribute("aria-pressed", "true")
    stop.click()
    expect(page.locator("article audio")).to_have_count(0)
    subscribers = lambda: live.get("/api/v1/nodes")["nodes"][0]["description"]["counters"]["subscribers"]
    until("the hub has hung up on the node", lambda: subscribers() == 1)


def test_a_bounded_number_of_people_listens_live(live):
    address = f"{live.url}/api/v1/nodes/live.wav?node={urllib.parse.quote(live.node.url, safe='')}"
    with contextlib.ExitStack() as listeners:
        for _ in range(8):
            sound = listeners.enter_context(urllib.request.urlopen(address, timeout=30))
            assert sound.headers["Content-Type"] == "audio/wav"
            assert sound.read(44 + 3_200)[:4] == b"RIFF"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address, timeout=30)
        assert refused.value.code == 429
        assert json.load(refused.value)["error"]["code"] == "too_many_listeners"

    # Each closed connection frees a place.
    def there_is_room():
        try:
            with urllib.request.urlopen(address, timeout=30) as sound:
                return sound.read(44)
        except urllib.error.HTTPError:
            return None

    until("there is room again", there_is_room)


def test_analysis_shows_progress_and_the_verdict(live, open_page):
    page = open_page(f"{live.url}/")
    card = page.locator("article.node")
    card.get_by_role("button", name="Analyse Tom").click()
    progress = card.get_by_role("progressbar")
    expect(progress).to_be_visible()
    becomes(page, "document.querySelector('progress').value > 20")
    expect(card.locator(".verdict")).to_have_text(re.compile(r" \(\d+ meows? in \d+ s\)\.$"), timeout=120_000)
    expect(progress).to_be_hidden()
    newest = live.get("/api/v1/analyses?limit=1")["analyses"][0]
    count = newest["detection_count"]
    meows = f"{count} meow" if count == 1 else f"{count} meows"
    expect(card.locator(".verdict")).to_have_text(f"{SOUNDS[newest['verdict']]} ({meows} in {newest['heard_s']:.0f} s).")
