"""The client when an answer is cut off. A socket plays the hub, so that each cut is at a known byte."""

import contextlib
import json
import socket
import threading

import pytest

from meowlink_client import Hub

EVENTS = [{"id": number, "started_at": "2026-11-28T12:00:00Z"} for number in (3, 2, 1)]
LINES = [json.dumps(event).encode() + b"\n" for event in EVENTS]
END = b"0\r\n\r\n"


def chunk(content):
    return b"%x\r\n%s\r\n" % (len(content), content)


def chunked(*pieces):
    """An answer in chunks, without its end."""
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(map(chunk, pieces))


def sized(content):
    """An answer with a length, as proxies send it."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content)


@contextlib.contextmanager
def answering(answer):
    """A hub that gives this answer to one request and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)

        def serve():
            with server.accept()[0] as connection:
                connection.settimeout(30)
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Hub(f"http://127.0.0.1:{server.getsockname()[1]}", timeout_s=30)
        finally:
            thread.join()


# Where the answer is cut, and how many events came before.
CUTS = {
    "at the end of a chunk": (chunked(*LINES[:2]), 2),
    "before the end of a chunk": (chunked(*LINES[:2])[:-2], 2),
    "in a chunk": (chunked(*LINES[:2])[:-10], 1),
    "in the size of a chunk": (chunked(*LINES[:2]) + b"4", 2),
    "after the head": (chunked(), 0),
    "before its length": (sized(b"".join(LINES))[: -len(LINES[2])], 2),
    "in a line": (chunked(*LINES[:2], LINES[2][:-5]) + END, 2),
}


@pytest.mark.parametrize("cut", CUTS)
def test_events_that_are_cut_off_are_an_error(cut):
    answer, whole = CUTS[cut]
    got = []
    with answering(answer) as hub, pytest.raises(ConnectionError, match="cut off"):
        for event in hub.events():
            got.append(event)
    assert got == EVENTS[:whole]
    with answering(answer) as hub, pytest.raises(ConnectionError, match="cut off"):
        hub.events_frame()


@pytest.mark.parametrize("pieces", [1, 2, 7, 1_000])
def test_events_are_whole_wherever_chunks_end(pieces):
    content = b"".join(LINES)
    answer = chunked(*(content[at : at + pieces] for at in range(0, len(content), pieces))) + END
    with answering(answer) as hub:
        assert list(hub.events()) == EVENTS
    with answering(sized(content)) as hub:
        assert list(hub.events()) == EVENTS
    with answering(chunked() + END) as hub:
        assert list(hub.events()) == []


@pytest.mark.parametrize("answer", [chunked(b"half an archive"), sized(b"half an archive" * 2)[:-15]])
def test_archive_that_is_cut_off_leaves_the_one_before(answer, tmp_path):
    path = tmp_path / "clips.zip"
    path.write_bytes(b"the archive of yesterday")
    with answering(answer) as hub, pytest.raises(ConnectionError, match="cut off"):
        hub.save_clips(path)
    assert path.read_bytes() == b"the archive of yesterday"
    with answering(chunked(b"the archive ", b"of today") + END) as hub:
        hub.save_clips(path)
    assert path.read_bytes() == b"the archive of today"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("answer", [chunked(b'{"id": 1}'), sized(b'{"id": 1}  ')[:-1]])
def test_other_answers_that_are_cut_off_are_an_error(answer):
    with answering(answer) as hub, pytest.raises(ConnectionError, match="cut off"):
        hub.event(1)


def test_live_audio_that_is_cut_off_is_an_error():
    with answering(chunked(bytes(44 + 400), bytes(300))) as hub, pytest.raises(ConnectionError, match="cut off"):
        assert [len(block) for block in hub.live("node", block_s=200 / 16_000)] == [200]
