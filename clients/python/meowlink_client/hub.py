"""A hub: its events, its clips, its nodes, and live audio.

The types of the answers are in `meowlink_client.models`, generated from the OpenAPI document of the hub.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
import urllib.error
import urllib.parse
import urllib.request
import wave
from collections.abc import Iterator, Mapping
from http.client import HTTPResponse, IncompleteRead
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from .models import EventAnswer, EventsAnswer, NodeAnswer, NodesAnswer

if TYPE_CHECKING:
    import pandas

# Samples a second of clips and of live audio.
SAMPLE_RATE_HZ = 16_000

# Bytes of the head of a WAV file before its samples.
_WAV_HEAD_BYTES = 44

# Longest answer that is read as an error, in bytes.
_MAX_ERROR_BYTES = 64 << 10

# Bytes of an answer that are read at a time.
_PIECE_BYTES = 64 << 10

Moment = str | datetime.datetime
Samples = npt.NDArray[np.int16]


class HubError(Exception):
    """The hub answered with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        # HTTP status.
        self.status = status
        # A stable word to branch on, such as `not_found`.
        self.code = code
        # What happened, and what to do.
        self.message = message


class Hub:
    """A hub.

    `url` is where its page is. `timeout_s` is how long one read may take. `headers` are sent with each request, for
    example `Authorization` for a proxy before the hub.
    """

    def __init__(
        self,
        url: str = "http://localhost:5000",
        *,
        timeout_s: float = 30.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._headers = dict(headers or {})

    def events(
        self,
        *,
        cat: str | None = None,
        node: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        context: str | None = None,
        min_score: float | None = None,
    ) -> Iterator[EventAnswer]:
        """Reads the events that match all filters, the latest first, one by one as the hub sends them.

        `since` and `until`: the event began at this time or later, and before this time. A `datetime` needs a time zone.
        """
        query = _query(cat, node, since, until, context, min_score)
        with self._get("/api/v1/events", {**query, "format": "jsonl"}) as answer:
            for line in _lines(answer):
                yield cast(EventAnswer, json.loads(line))

    def events_frame(
        self,
        *,
        cat: str | None = None,
        node: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        context: str | None = None,
        min_score: float | None = None,
    ) -> pandas.DataFrame:
        """As `events`, as a pandas frame: a row for each event, with its number as the index.

        Nested fields become columns such as `context.label`, times become time stamps in UTC, and the lists
        `also_heard_by` and `like_false_alarms` become texts. Every column has a plain type, so `frame.to_parquet` can
        write it.
        """
        import pandas

        events = self.events(cat=cat, node=node, since=since, until=until, context=context, min_score=min_score)
        columns = ["id", "started_at", "ended_at", "labelled_at", "cat_named_at"]
        frame = pandas.json_normalize(list(events))
        # Without an event there would be no columns.
        frame = frame.reindex(columns=list(dict.fromkeys([*columns, *frame.columns])))
        for column in columns[1:]:
            frame[column] = pandas.to_datetime(frame[column], utc=True, format="ISO8601")
        for column in {"also_heard_by", "like_false_alarms"} & set(frame.columns):
            frame[column] = frame[column].map(lambda values: " ".join(map(str, values)))
        # Set where an event has none of these: their fields are columns of their own.
        return frame.drop(columns=["clip", "first_context"], errors="ignore").set_index("id")

    def event(self, event_id: int) -> EventAnswer:
        """Reads one event."""
        return cast(EventAnswer, self._json(f"/api/v1/events/{event_id}"))

    def label(self, event_id: int, label: str | None) -> EventAnswer:
        """Labels an event: `waiting_for_food`, `isolation`, `brushing` or `not_a_cat`. `None` removes the label."""
        return self._change("PUT", f"/api/v1/events/{event_id}/label", {"label": label})

    def name_cat(self, event_id: int, cat: str | None) -> EventAnswer:
        """Says which cat an event was. `None` takes that back: the event is of its node's cat again."""
        path = f"/api/v1/events/{event_id}/cat"
        return self._change("DELETE", path) if cat is None else self._change("PUT", path, {"cat": cat})

    def _change(self, method: str, path: str, body: Mapping[str, str | None] | None = None) -> EventAnswer:
        request = self._request(path, {})
        request.method = method
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with self._open(request) as answer:
            return cast(EventAnswer, json.loads(_whole(answer)))

    def clip(self, event_id: int) -> Samples:
        """Reads the clip of an event: 16,000 samples a second, one channel, 16 bits."""
        with self._get(f"/api/v1/events/{event_id}/clip.wav", {}) as answer:
            content = _whole(answer)
        with wave.open(io.BytesIO(content)) as file:
            return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.int16)

    def save_clips(
        self,
        path: str | os.PathLike[str],
        *,
        cat: str | None = None,
        node: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        context: str | None = None,
        min_score: float | None = None,
    ) -> None:
        """Writes a ZIP archive with the clips of all events that match, a table for Raven for each, and `events.csv`.

        The archive is written to `path` with `.partial` behind it and renamed at its end: if the transfer fails, a file
        that is at `path` already stays as it is.
        """
        query = _query(cat, node, since, until, context, min_score)
        # A link stays a link.
        target = os.path.realpath(path)
        partial = f"{target}.partial"
        with self._get("/api/v1/events.zip", query) as answer:
            try:
                with open(partial, "wb") as file:
                    file.writelines(_pieces(answer))
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, target)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(partial)
                raise

    def nodes(self) -> list[NodeAnswer]:
        """Reads the nodes that the hub listens to."""
        return cast(NodesAnswer, self._json("/api/v1/nodes"))["nodes"]

    def live(self, node: str, *, block_s: float = 0.1) -> Iterator[Samples]:
        """Yields live audio of a node in blocks of `block_s` seconds, until the loop ends.

        `node` is the URL or the id of a node. The audio begins with the last second. A gap is silence.
        """
        count = round(block_s * SAMPLE_RATE_HZ)
        if count < 1:
            raise ValueError(f"block_s is {block_s}: a block has at least one sample")
        with self._get("/api/v1/nodes/live.wav", {"node": node}) as answer:
            _read(answer, _WAV_HEAD_BYTES)
            while len(block := _read(answer, 2 * count)) == 2 * count:
                yield np.frombuffer(block, dtype="<i2").astype(np.int16)

    def page(self, *, limit: int = 50, cursor: str | None = None) -> EventsAnswer:
        """Reads one page of all events, the latest first. `cursor` is `next_cursor` of the page before."""
        query = {"limit": str(limit)} | ({} if cursor is None else {"cursor": cursor})
        return cast(EventsAnswer, self._json("/api/v1/events", query))

    def _json(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        with self._get(path, query or {}) as answer:
            return json.loads(_whole(answer))

    def _get(self, path: str, query: Mapping[str, str]) -> HTTPResponse:
        return self._open(self._request(path, query))

    def _request(self, path: str, query: Mapping[str, str]) -> urllib.request.Request:
        text = urllib.parse.urlencode(query)
        return urllib.request.Request(f"{self._url}{path}{'?' if text else ''}{text}", headers=self._headers)

    def _open(self, request: urllib.request.Request) -> HTTPResponse:
        try:
            return cast(HTTPResponse, urllib.request.urlopen(request, timeout=self._timeout_s))
        except urllib.error.HTTPError as answer:
            with answer:
                raise _error(answer.code, answer.read(_MAX_ERROR_BYTES)) from None


def _read(answer: HTTPResponse, count: int) -> bytes:
    """Reads `count` bytes, fewer only at the end of the answer."""
    try:
        return answer.read(count)
    except IncompleteRead as error:
        raise _cut_off() from error


def _pieces(answer: HTTPResponse) -> Iterator[bytes]:
    """Yields an answer as it comes, up to its end. `for line in answer` would take a cut-off for the end."""
    # The hub sends chunks, whose end `read1` checks. What a proxy passes on may have a length instead, which `read1`
    # does not check. Only some versions of Python count `answer.length` down.
    left: int | None = answer.length
    try:
        while left != 0 and (piece := answer.read1(_PIECE_BYTES if left is None else min(left, _PIECE_BYTES))):
            left = None if left is None else left - len(piece)
            yield piece
    except IncompleteRead as error:
        raise _cut_off() from error
    if left:
        raise _cut_off()


def _whole(answer: HTTPResponse) -> bytes:
    return b"".join(_pieces(answer))


def _lines(answer: HTTPResponse) -> Iterator[bytes]:
    """Yields the lines of an answer, each without its end."""
    rest = b""
    for piece in _pieces(answer):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    # The hub ends every line.
    if rest:
        raise _cut_off()


def _cut_off() -> ConnectionError:
    return ConnectionError("the answer of the hub was cut off; try again")


def _query(
    cat: str | None,
    node: str | None,
    since: Moment | None,
    until: Moment | None,
    context: str | None,
    min_score: float | None,
) -> dict[str, str]:
    given = {
        "cat": cat,
        "node": node,
        "from": _time(since),
        "to": _time(until),
        "context": context,
        "min_score": None if min_score is None else repr(float(min_score)),
    }
    return {key: value for key, value in given.items() if value is not None}


def _time(moment: Moment | None) -> str | None:
    if not isinstance(moment, datetime.datetime):
        return moment
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone; use for example datetime.now(timezone.utc)")
    return moment.isoformat()


def _error(status: int, body: bytes) -> HubError:
    try:
        error = json.loads(body)["error"]
        return HubError(status, error["code"], error["message"])
    except (KeyError, TypeError, ValueError):
        # From a proxy, or from something that is no hub.
        return HubError(status, "unknown", f"HTTP status {status}: {body[:200].decode(errors='replace')}")
