"""Our hub in front of cats that are Python servers like the original."""

import threading

import cat_pb2
import cat_pb2_grpc
import catAnalysis_pb2
import catAnalysis_pb2_grpc
import grpc
import pytest
from conftest import serve

import meowlink


class Cat(cat_pb2_grpc.catServicer):
    """A cat of the original: it has no microphone. It keeps the metadata of its calls, and its seconds are short."""

    second_s = 0.05

    def __init__(self):
        self.metadata = []
        self.cancelled = threading.Event()

    def CallCat(self, request, context):
        self.metadata.append(dict(context.invocation_metadata()))
        return cat_pb2.CatResponse(catMeaw=f"{request.catName}: MEEEWWWWW")

    def AnalyzeCatSound(self, request, context):
        self.metadata.append({key: value for key, value in context.invocation_metadata()})
        context.add_callback(self.cancelled.set)
        for k in range(30):
            threading.Event().wait(self.second_s)
            yield self.message(request.catName, k)

    def message(self, name, k):
        return cat_pb2.AnalyzeCatSoundResponse(result=f"{name} Meaw #{k}")


class CatThatBreaksOff(Cat):
    """A cat that fails in the middle of its stream."""

    def AnalyzeCatSound(self, request, context):
        for k in range(5):
            yield self.message(request.catName, k)
        context.abort(grpc.StatusCode.DATA_LOSS, "the cat has run away")


class CatThatRefuses(Cat):
    """A cat that does not implement the stream."""

    def AnalyzeCatSound(self, request, context):
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such thing")


class CatOfTheFuture(Cat):
    """A cat that sends unknown fields."""

    def CallCat(self, request, context):
        return cat_pb2.CatResponse.FromString(
            cat_pb2.CatResponse(catMeaw=f"{request.catName}: MEEEWWWWW").SerializeToString() + b"\x92\x3f\x05later"
        )


@pytest.fixture
def with_cat(request):
    """A hub whose only node is a Python cat of this class."""
    cat = request.param()
    server, port = serve(cat_pb2_grpc.add_catServicer_to_server, cat)
    with meowlink.Hub(f"127.0.0.1:{port}") as hub:
        yield hub, cat
    server.stop(None)


def analyze(hub, name, metadata=None):
    with meowlink.channel(hub.analysis) as channel:
        stub = catAnalysis_pb2_grpc.catAnalysisStub(channel)
        request = catAnalysis_pb2.AnalysisRequest(catName=name)
        answer = stub.AnalyzeSound(request, timeout=10, metadata=metadata)
    assert answer.result == f"Analyzing {name} ..."


def ended(hub):
    def newest():
        analysis = hub.analyses()[0]
        return analysis if analysis["status"] != "running" else None

    return meowlink.until("the analysis has ended", newest, 60)


@pytest.mark.parametrize("with_cat", [Cat], indirect=True)
def test_metadata_of_the_call_arrives_at_the_cats_stream(with_cat):
    hub, cat = with_cat
    metadata = [("x-request-id", "42"), ("user", "jörg".encode().hex()), ("trace-bin", b"\x00\xff\x10"), ("twice", "one")]
    analyze(hub, "Tom", metadata)
    ended(hub)
    arrived = cat.metadata[-1]
    for key, value in metadata:
        assert arrived.get(key) == value, f"{key} in {arrived}"


@pytest.mark.parametrize("with_cat", [Cat], indirect=True)
def test_metadata_of_one_call_does_not_leak_into_the_next(with_cat):
    hub, cat = with_cat
    analyze(hub, "Tom", [("secret", "of the first")])
    analyze(hub, "Tom", [("other", "of the second")])
    meowlink.until("both streams", lambda: len(cat.metadata) == 2)
    assert sorted(("secret" in told, "other" in told) for told in cat.metadata) == [(False, True), (True, False)]


@pytest.mark.parametrize("with_cat", [Cat], indirect=True)
def test_a_cat_without_audio_is_smelly_and_the_analysis_says_that_there_was_no_audio(with_cat):
    hub, _ = with_cat
    analyze(hub, "Tom")
    analysis = ended(hub)
    assert analysis["messages"] == 30
    assert analysis["verdict"] == "Smelly"
    assert analysis["heard_s"] == 0
    assert analysis["status"] == "partial" and "no audio" in analysis["reason"]


@pytest.mark.parametrize("with_cat", [CatThatBreaksOff], indirect=True)
def test_a_stream_that_breaks_off_is_stored_with_the_reason(with_cat):
    hub, _ = with_cat
    analyze(hub, "Tom")
    analysis = ended(hub)
    # Failed, not partial, because the five messages had no audio.
    assert (analysis["status"], analysis["messages"], analysis["heard_s"]) == ("failed", 5, 0)
    assert "the cat has run away" in analysis["reason"]


@pytest.mark.parametrize("with_cat", [CatThatRefuses], indirect=True)
def test_a_stream_that_is_refused_is_failed_with_the_reason(with_cat):
    hub, _ = with_cat
    analyze(hub, "Tom")
    analysis = ended(hub)
    assert (analysis["status"], analysis["messages"]) == ("failed", 0)
    assert analysis["reason"]


@pytest.mark.parametrize("with_cat", [Cat, CatOfTheFuture], indirect=True)
def test_the_gateway_calls_a_python_cat(with_cat):
    hub, _ = with_cat
    assert hub.get("/cat/J%C3%B6rg") == (200, '{"catMeaw":"Jörg: MEEEWWWWW"}\n'.encode())


class CatThatHangs(Cat):
    """A cat that accepts calls and never answers."""

    def CallCat(self, request, context):
        finished = threading.Event()
        context.add_callback(finished.set)
        finished.wait(60)
        return cat_pb2.CatResponse()

    def AnalyzeCatSound(self, request, context):
        finished = threading.Event()
        context.add_callback(finished.set)
        finished.wait(120)
        return iter(())


@pytest.mark.parametrize("with_cat", [CatThatHangs], indirect=True)
def test_a_cat_that_hangs_costs_a_deadline(with_cat):
    hub, _ = with_cat
    analyze(hub, "Tom")
    status, body = hub.get("/cat/Tom")
    assert status == 504 and b"node_too_slow" in body
    analysis = ended(hub)
    assert analysis["status"] == "failed" and analysis["reason"]
