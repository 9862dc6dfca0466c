"""The stream of half a minute: messages, pace, cancellation, unknown fields."""

import threading
import time

import cat_pb2
import cat_pb2_grpc
import grpc
import pytest

import meowlink


@pytest.mark.parametrize("name", ["Tom", "", "Jörg 猫"])
def test_30_messages_one_a_second_then_ok(node, name):
    with meowlink.channel(node.port) as channel:
        # Connect first, so that only the stream is timed.
        grpc.channel_ready_future(channel).result(meowlink.SOON_S)
        start = time.monotonic()
        call = cat_pb2_grpc.catStub(channel).AnalyzeCatSound(cat_pb2.AnalyzeCatSoundRequest(catName=name), timeout=60)
        messages, at_s = [], []
        for message in call:
            messages.append(message.result)
            at_s.append(time.monotonic() - start)
        took_s = time.monotonic() - start
        assert call.code() == grpc.StatusCode.OK
    assert messages == [f"{name} Meaw #{k}" for k in range(30)]
    # Each message comes at the end of its second: not earlier, and a delay by a busy machine does not accumulate.
    for k, at in enumerate(at_s):
        assert k + 1 - 0.1 < at < k + 1 + 0.9, f"message {k} after {at:.3f} s"
    assert took_s - at_s[-1] < 0.9, "OK comes with the last message"


def test_an_old_client_gets_the_text_alone(node):
    with meowlink.channel(node.port) as channel:
        call = cat_pb2_grpc.catStub(channel).AnalyzeCatSound(cat_pb2.AnalyzeCatSoundRequest(catName="Tom"), timeout=30)
        message = next(call)
        call.cancel()
    # A second of audio (16 kHz, 16 bits) would be in fields that this client does not know, and prints.
    assert message.SerializeToString() == cat_pb2.AnalyzeCatSoundResponse(result="Tom Meaw #0").SerializeToString()


def test_unknown_fields_of_a_newer_client_are_ignored(node, owner):
    newer = b"\x92\x3f\x05later" + b"\x98\x3f\x2a" + b"\xa1\x3f" + bytes(8)  # fields 1010 (bytes), 1011 (varint), 1012 (fixed64)
    with meowlink.channel(node.port) as channel:
        call = channel.unary_unary(
            "/proto.cat/CallCat", lambda request: request.SerializeToString() + newer, cat_pb2.CatResponse.FromString
        )
        assert call(cat_pb2.CatRequest(catName="Tom"), timeout=meowlink.SOON_S).catMeaw == "Tom: MEEEWWWWW"
        stream = channel.unary_stream(
            "/proto.cat/AnalyzeCatSound",
            lambda request: newer + request.SerializeToString(),
            cat_pb2.AnalyzeCatSoundResponse.FromString,
        )
        call = stream(cat_pb2.AnalyzeCatSoundRequest(catName="Tom"), timeout=meowlink.SOON_S)
        assert next(call).result == "Tom Meaw #0"
        call.cancel()


def test_cancel_ends_one_stream_and_no_other(node):
    with meowlink.channel(node.port) as channel:
        stub = cat_pb2_grpc.catStub(channel)
        cancelled = stub.AnalyzeCatSound(cat_pb2.AnalyzeCatSoundRequest(catName="A"), timeout=60)
        other = stub.AnalyzeCatSound(cat_pb2.AnalyzeCatSoundRequest(catName="B"), timeout=60)
        assert next(cancelled).result == "A Meaw #0"
        timer = threading.Timer(0.2, cancelled.cancel)
        timer.start()
        with pytest.raises(grpc.RpcError) as error:
            next(cancelled)
        assert error.value.code() == grpc.StatusCode.CANCELLED
        assert [next(other).result for _ in range(3)] == [f"B Meaw #{k}" for k in range(3)]
        other.cancel()


def test_20_streams_at_once_each_have_all_their_messages(node):
    """Opens 20 streams on one connection. All keep the same pace."""
    with meowlink.channel(node.port) as channel:
        stub = cat_pb2_grpc.catStub(channel)
        calls = [stub.AnalyzeCatSound(cat_pb2.AnalyzeCatSoundRequest(catName=f"Cat{n}"), timeout=60) for n in range(20)]
        for n, call in enumerate(calls):
            assert [message.result for message in call] == [f"Cat{n} Meaw #{k}" for k in range(30)]
            assert call.code() == grpc.StatusCode.OK
