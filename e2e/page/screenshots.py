"""Takes screenshots of each view, for desktop and phone, light and dark: screenshots.py FOLDER."""

import io
import pathlib
import sys
import tempfile
import urllib.request

from PIL import Image

import browser as stage

VIEWS = {"now": ("#/", "li.event"), "events": ("#/events", "li.event"), "rhythm": ("#/rhythm", ".hour a"), "event": (None, ".sound img")}

# Colours and greatest width of a screenshot: enough for spectrograms, in a fifth of the bytes.
COLOURS = 256
WIDTH = 800

# Time in which a live spectrogram fills.
FILLED_MS = 21_000


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, stage.MeowingNode("Tom") as node, stage.Hub(data, node.url) as hub:
        hub.wait_for_events(8)
        label(hub, 2, "brushing")
        label(hub, 4, "isolation")
        with stage.chromium() as browser:
            for device, size in (("desktop", stage.DESKTOP), ("phone", stage.PHONE)):
                for scheme in ("light", "dark"):
                    context = browser.new_context(viewport=size, color_scheme=scheme, locale="en-GB", timezone_id="Europe/Berlin")
                    page = context.new_page()
                    for name, (view, drawn) in VIEWS.items():
                        page.goto(f"{hub.url}/{view or '#/events/2'}")
                        page.locator(drawn).first.wait_for()
                        page.wait_for_timeout(FILLED_MS if name == "now" else 1_000)
                        save(page.screenshot(), folder / f"{name}-{device}-{scheme}.png")
                    context.close()


def label(hub, event, word):
    body = f'{{"label":"{word}"}}'.encode()
    request = urllib.request.Request(
        f"{hub.url}/api/v1/events/{event}/label", data=body, method="PUT", headers={"content-type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=30).close()


def save(png, path):
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.thumbnail((WIDTH, picture.height), Image.Resampling.LANCZOS)
    picture.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} kB")


main(pathlib.Path(sys.argv[1]))
