"""Listen and Describe, called by clients that are generated from our proto files."""

import cat_pb2
import cat_pb2_grpc
import grpc
import pytest

import meowlink

FRAME_SAMPLES = 320


@pytest.fixture
def stub(node):
    with meowlink.channel(node.port) as channel:
        yield cat_pb2_grpc.catStub(channel)


def take(call, count):
    events = [next(call) for _ in range(count)]
    call.cancel()
    return events


@pytest.mark.parametrize(("frame_ms", "frames"), [(0, 1), (20, 1), (40, 2), (100, 5)])
def test_frames_are_numbered_without_a_gap(stub, frame_ms, frames):
    boot_id = stub.Describe(cat_pb2.DescribeRequest(), timeout=10).boot_id
    events = take(stub.Listen(cat_pb2.ListenRequest(frame_ms=frame_ms), timeout=30), 10)
    for event in events:
        frame = event.frame
        assert event.WhichOneof("event") == "frame"
        assert frame.boot_id == boot_id != 0
        assert frame.sample_count == frames * FRAME_SAMPLES and len(frame.audio) == 2 * frame.sample_count
        assert frame.first_sample == FRAME_SAMPLES * frame.sequence
        assert frame.encoding == cat_pb2.ENCODING_PCM_S16LE
    for before, after in zip(events, events[1:]):
        assert after.frame.sequence == before.frame.sequence + frames
        # The time is that of the node's clock: about 20 ms for each frame.
        assert after.frame.captured_monotonic_ns > before.frame.captured_monotonic_ns


def test_the_tape_is_played_from_a_cursor_then_live(stub):
    meowlink.until("two seconds of tape", lambda: stub.Describe(cat_pb2.DescribeRequest(), timeout=10).tape.next_sequence > 100)
    told = stub.Describe(cat_pb2.DescribeRequest(), timeout=10)
    cursor = cat_pb2.Cursor(boot_id=told.boot_id, sequence=50)
    beyond = told.tape.next_sequence + 50
    sequences = []
    call = stub.Listen(cat_pb2.ListenRequest(**{"from": cursor}), timeout=60)
    for event in call:
        assert event.WhichOneof("event") == "frame"
        sequences.append(event.frame.sequence)
        if event.frame.sequence == beyond:
            call.cancel()
            break
    assert sequences == list(range(50, beyond + 1))


def test_the_same_place_on_the_tape_is_the_same_audio(stub):
    boot_id = stub.Describe(cat_pb2.DescribeRequest(), timeout=10).boot_id
    cursor = cat_pb2.Cursor(boot_id=boot_id, sequence=10)
    first, second = (take(stub.Listen(cat_pb2.ListenRequest(**{"from": cursor}), timeout=30), 25) for _ in range(2))
    # The node computes the wall time when it sends a frame. All else is stored on the tape.
    for event in first + second:
        assert event.frame.captured_unix_ns > 0
        event.frame.ClearField("captured_unix_ns")
    assert first == second and any(any(event.frame.audio) for event in first)


def test_a_cursor_of_another_boot_begins_with_a_gap(stub):
    told = stub.Describe(cat_pb2.DescribeRequest(), timeout=10)
    cursor = cat_pb2.Cursor(boot_id=told.boot_id ^ 1, sequence=1234)
    gap, frame = take(stub.Listen(cat_pb2.ListenRequest(**{"from": cursor}), timeout=30), 2)
    assert gap.WhichOneof("event") == "gap" and gap.gap.reason == cat_pb2.GAP_REASON_NODE_RESTARTED
    assert (gap.gap.boot_id, gap.gap.first_sequence, gap.gap.frame_count) == (told.boot_id ^ 1, 1234, 0)
    assert frame.frame.boot_id == told.boot_id and frame.frame.sequence == told.tape.oldest_sequence


def test_unknown_frame_lengths_and_encodings_are_refused(stub):
    for request in [cat_pb2.ListenRequest(frame_ms=30), cat_pb2.ListenRequest(frame_ms=2000), cat_pb2.ListenRequest(encoding=99)]:
        with pytest.raises(grpc.RpcError) as error:
            next(stub.Listen(request, timeout=10))
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT and error.value.details()


def test_each_second_of_the_old_stream_carries_its_audio(stub):
    request = cat_pb2.AnalyzeCatSoundRequest(catName="Tom", with_audio=True)
    messages = take(stub.AnalyzeCatSound(request, timeout=60), 3)
    frames = [event.frame for message in messages for event in message.audio]
    assert all(message.state == cat_pb2.SOURCE_STATE_CAPTURING for message in messages)
    samples = sum(frame.sample_count for frame in frames)
    assert samples == 3 * 16_000, "three seconds, exact to the sample"
    next_sequence = frames[0].sequence
    for frame in frames:
        assert frame.sequence == next_sequence
        next_sequence += frame.sample_count // FRAME_SAMPLES


def test_the_node_describes_itself(stub):
    told = stub.Describe(cat_pb2.DescribeRequest(), timeout=10)
    assert told.cat_name == "Tom" and told.version and told.unix_ns > 0 and told.uptime_ns > 0
    assert (told.source.kind, told.source.state) == ("synthetic", cat_pb2.SOURCE_STATE_CAPTURING)
    assert told.source.sample_rate_hz > 0 and told.source.channels >= 1
    assert told.tape.capacity_frames > 0 and told.tape.next_sequence >= told.tape.oldest_sequence
    later = meowlink.until(
        "the counter of captured frames grows",
        lambda: (now := stub.Describe(cat_pb2.DescribeRequest(), timeout=10)).counters.frames_captured
        > told.counters.frames_captured
        and now,
    )
    assert later.boot_id == told.boot_id and later.tape.next_sequence > told.tape.next_sequence
    assert -120 <= later.level.rms_dbfs <= later.level.peak_dbfs <= 0
    assert cat_pb2.ENCODING_PCM_S16LE in later.encodings


def test_a_cancelled_subscriber_is_no_longer_counted():
    with meowlink.Node("http://127.0.0.1:1") as node, meowlink.channel(node.port) as channel:
        stub = cat_pb2_grpc.catStub(channel)

        def subscribers():
            return stub.Describe(cat_pb2.DescribeRequest(), timeout=10).counters.subscribers

        calls = [stub.Listen(cat_pb2.ListenRequest(), timeout=60) for _ in range(3)]
        for call in calls:
            next(call)
        assert subscribers() == 3
        for call in calls:
            call.cancel()
        meowlink.until("there are no subscribers", lambda: subscribers() == 0)
