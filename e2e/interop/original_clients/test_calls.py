"""The four unary calls, by clients that are generated from the original's proto files."""

import cat_pb2
import cat_pb2_grpc
import catAnalysis_pb2
import catAnalysis_pb2_grpc
import dog_pb2
import dog_pb2_grpc
import grpc
import owner_pb2
import owner_pb2_grpc
import pytest

import meowlink

NAMES = ["Tom", "", "Jörg 猫 🐱", "a" * 1000]


@pytest.mark.parametrize("name", NAMES)
def test_call_cat_notifies_the_owner_and_answers(node, owner, name):
    before = len(owner.notified)
    with meowlink.channel(node.port) as channel:
        answer = cat_pb2_grpc.catStub(channel).CallCat(cat_pb2.CatRequest(catName=name), timeout=meowlink.SOON_S)
    assert answer == cat_pb2.CatResponse(catMeaw=f"{name}: MEEEWWWWW")
    assert answer.SerializeToString() == cat_pb2.CatResponse(catMeaw=f"{name}: MEEEWWWWW").SerializeToString()
    assert owner.notified[before:] == [(name, "cat")]


@pytest.mark.parametrize("name", NAMES)
def test_call_dog_answers(hub, name):
    with meowlink.channel(hub.dog) as channel:
        answer = dog_pb2_grpc.dogStub(channel).CallDog(dog_pb2.DogRequest(dogName=name), timeout=meowlink.SOON_S)
    assert answer == dog_pb2.DogResponse(dogBark=f"{name} is going to bark!")


def test_call_dog_notifies_the_owner(owner):
    """Runs the dog as a process of its own that notifies the Python owner."""
    port = meowlink.free_port()
    arguments = ["serve", "--only", "dog", "--dog", f"127.0.0.1:{port}", "--owner-url", f"http://127.0.0.1:{owner.port}"]
    before = len(owner.notified)
    with meowlink.Daemon("hub", *arguments):
        meowlink.wait_for_port(port)
        with meowlink.channel(port) as channel:
            answer = dog_pb2_grpc.dogStub(channel).CallDog(dog_pb2.DogRequest(dogName="Rex"), timeout=meowlink.SOON_S)
    assert answer.dogBark == "Rex is going to bark!"
    assert owner.notified[before:] == [("Rex", "Dog")]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("Tom", "cat", "Owner of Tom cat is notified"),
        ("", "", "Owner of   is notified"),
        ("Jörg", "Dog", "Owner of Jörg Dog is notified"),
    ],
)
def test_notify_answers(hub, name, kind, message):
    with meowlink.channel(hub.owner) as channel:
        request = owner_pb2.NotifyRequest(animalName=name, animalType=kind)
        answer = owner_pb2_grpc.OwnerStub(channel).Notify(request, timeout=meowlink.SOON_S)
    assert answer == owner_pb2.NotifyResponse(message=message)


@pytest.mark.parametrize("name", NAMES[:3])
def test_analyze_sound_answers_at_once(hub, name):
    with meowlink.channel(hub.analysis) as channel:
        request = catAnalysis_pb2.AnalysisRequest(catName=name)
        # The deadline is far below the half minute that the analysis takes.
        answer = catAnalysis_pb2_grpc.catAnalysisStub(channel).AnalyzeSound(request, timeout=10)
    assert answer.result == f"Analyzing {name} ..."
    assert any(stored["cat"] == name for stored in hub.analyses())


def test_routes_are_case_sensitive(node):
    with meowlink.channel(node.port) as channel:
        for route in ["/proto.Cat/CallCat", "/proto.cat/callCat", "/cat/CallCat"]:
            call = channel.unary_unary(route, cat_pb2.CatRequest.SerializeToString, cat_pb2.CatResponse.FromString)
            with pytest.raises(grpc.RpcError) as error:
                call(cat_pb2.CatRequest(catName="Tom"), timeout=meowlink.SOON_S)
            assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_request_that_is_no_message_is_refused(node):
    with meowlink.channel(node.port) as channel:
        call = channel.unary_unary("/proto.cat/CallCat", bytes, bytes)
        with pytest.raises(grpc.RpcError) as error:
            call(b"\x0a\xff", timeout=meowlink.SOON_S)
        assert error.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)
        answer = cat_pb2_grpc.catStub(channel).CallCat(cat_pb2.CatRequest(catName="Tom"), timeout=meowlink.SOON_S)
        assert answer.catMeaw == "Tom: MEEEWWWWW"


def test_deadline_of_the_caller_is_kept(node):
    with meowlink.channel(node.port) as channel:
        call = cat_pb2_grpc.catStub(channel).AnalyzeCatSound(cat_pb2.AnalyzeCatSoundRequest(catName="Tom"), timeout=2.5)
        heard = []
        with pytest.raises(grpc.RpcError) as error:
            for message in call:
                heard.append(message.result)
        assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert heard[:1] == ["Tom Meaw #0"] and len(heard) <= 2
