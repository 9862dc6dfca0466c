"""The client against a real hub and node; its generated parts against the hub's document and the proto files."""

import compileall
import csv
import datetime
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import zipfile

import numpy as np
import openapi_spec_validator
import pandas
import pytest

import meowlink
from meowlink_client import SAMPLE_RATE_HZ, Hub, HubError
from meowlink_client.node import Frame, listen

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="session")
def node():
    """A cat-node with a synthetic source, whose owner does not run."""
    with meowlink.Node("http://127.0.0.1:1") as node:
        yield node


@pytest.fixture(scope="session")
def server(node):
    """A hub in front of that node, with an event that has a clip."""
    with meowlink.Hub(node.target) as server:
        meowlink.until("an event with a clip", lambda: b"clip.wav" in server.get("/api/v1/events?limit=500")[1], 120)
        yield server


@pytest.fixture(scope="session")
def url(server):
    return f"http://127.0.0.1:{server.http}"


@pytest.fixture(scope="session")
def hub(url):
    return Hub(url)


@pytest.fixture(scope="session")
def document(server, tmp_path_factory):
    path = tmp_path_factory.mktemp("openapi") / "openapi.json"
    path.write_bytes(server.get("/api/v1/openapi.json")[1])
    return path


def ended(hub):
    """Returns an end for filters: events that began before it do not change in number while a test runs."""
    return next(hub.events())["ended_at"]


def test_openapi_document_is_valid(document):
    openapi_spec_validator.validate(json.loads(document.read_text()))


def test_client_that_is_generated_from_the_document_compiles(document, tmp_path):
    config = tmp_path / "config.yml"
    config.write_text(
        "post_hooks: []\n"
        "content_type_overrides:\n"
        + "".join(f"  {kind}: application/octet-stream\n" for kind in ["application/zip", "audio/wav", "image/png"])
        + "".join(f"  {kind}: text/plain\n" for kind in ["application/x-ndjson", "text/csv", "text/event-stream"])
    )
    made = tmp_path / "generated_client"
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", document, "--config", config]
    subprocess.run([*command, "--meta", "none", "--output-path", made, "--fail-on-warning"], check=True, timeout=300)
    assert compileall.compile_dir(made, quiet=1)
    paths = json.loads(document.read_text())["paths"].values()
    operations = [operation for path in paths for operation in path.values()]
    modules = [f"generated_client.api.{operation['tags'][0]}.{operation['operationId']}" for operation in operations]
    assert len(modules) > 25
    subprocess.run([sys.executable, "-c", f"import {', '.join(modules)}"], check=True, cwd=tmp_path, timeout=60)


def test_generated_code_is_that_of_the_document_and_the_proto_files(document, tmp_path):
    environment = {**os.environ, "PYTHON": sys.executable}
    subprocess.run([ROOT / "generate", document, tmp_path], check=True, env=environment, timeout=300)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(made) == 5
    for path in made:
        assert (tmp_path / path).read_text() == (ROOT / path).read_text(), f"{path}: run clients/python/generate"


def test_types_are_consistent():
    subprocess.run([sys.executable, "-m", "mypy", "--cache-dir", os.devnull], check=True, cwd=ROOT, timeout=300)


def test_events_are_those_of_the_csv_in_a_frame_of_plain_columns(hub, server):
    until = ended(hub)
    rows = list(csv.DictReader(io.StringIO(server.get(f"/api/v1/events.csv?to={until}")[1].decode())))
    frame = hub.events_frame(until=until)
    assert [str(number) for number in frame.index] == [row["id"] for row in rows]
    for row, (_, event) in zip(rows, frame.iterrows()):
        assert event["started_at"] == pandas.Timestamp(row["started_at"])
        assert event["context.label"] == row["context"]
        assert event["measurements.peak_dbfs"] == pytest.approx(float(row["peak_dbfs"]))
    for name, column in frame.items():
        assert not any(isinstance(value, (dict, list)) for value in column), name
    assert str(frame["started_at"].dtype).startswith("datetime64")
    since = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    empty = hub.events_frame(since=since)
    assert len(empty) == 0 and "started_at" in empty


def test_clip_is_samples_alone_and_in_the_archive(hub, tmp_path):
    event = next(event for event in hub.events() if event.get("clip"))
    samples = hub.clip(event["id"])
    assert samples.dtype == np.int16 and len(samples) == round(event["clip"]["duration_s"] * SAMPLE_RATE_HZ)
    assert np.abs(samples.astype(int)).max() > 100
    hub.save_clips(tmp_path / "clips.zip", until=event["ended_at"], min_score=0.0)
    with zipfile.ZipFile(tmp_path / "clips.zip") as archive:
        assert archive.testzip() is None
        wav = archive.read(f"clips/event-{event['id']}.wav")
        assert np.array_equal(np.frombuffer(wav[44:], dtype="<i2"), samples)
        table = archive.read(f"clips/event-{event['id']}.Table.1.selections.txt").decode().splitlines()
        begin, end = (float(cell) for cell in table[1].split("\t")[3:5])
        assert begin == pytest.approx(event["clip"]["event_start_s"], abs=1e-5)
        assert end - begin == pytest.approx(event["duration_s"], abs=1e-5)


def test_event_is_labelled_and_errors_have_codes(hub):
    event = next(hub.events())
    assert hub.label(event["id"], "brushing")["counts_as"] == "brushing"
    assert hub.label(event["id"], None).get("label") is None
    named = hub.name_cat(event["id"], "Ada")
    assert (named["cat"], named["node_cat"]) == ("Ada", event["node_cat"])
    assert [one["id"] for one in hub.events(cat="Ada")] == [event["id"]]
    assert hub.name_cat(event["id"], None) == event
    with pytest.raises(HubError) as error:
        hub.event(999_999)
    assert (error.value.status, error.value.code) == (404, "not_found")
    with pytest.raises(ValueError, match="time zone"):
        next(hub.events(since=datetime.datetime(2026, 1, 1)))


def test_live_audio_comes_from_the_hub_and_from_the_node(hub, node):
    blocks = hub.live(hub.nodes()[0]["url"], block_s=0.25)
    assert [len(next(blocks)) for _ in range(4)] == [4_000] * 4
    blocks.close()
    frames = listen(node.target, frame_ms=100, timeout_s=60)
    first, second = next(frames), next(frames)
    frames.close()
    assert isinstance(first, Frame) and isinstance(second, Frame)
    assert (second.sequence - first.sequence, len(first.samples)) == (5, 1_600)


def test_every_example_of_the_readme_runs(url, node, tmp_path):
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(examples) == 5
    for example in examples:
        code = example.replace("http://localhost:5000", url).replace("localhost:50056", node.target)
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=120)
