"""Starts both daemons without any address, and calls them as the original's clients do: at `localhost:PORT` and at both
loopback addresses. test_default_addresses.py runs it."""

import sys
import urllib.request

import cat_pb2
import cat_pb2_grpc
import catAnalysis_pb2
import catAnalysis_pb2_grpc
import dog_pb2
import dog_pb2_grpc
import grpc
import owner_pb2
import owner_pb2_grpc

import meowlink

HOSTS = ["localhost", "127.0.0.1", "[::1]"]


def call(host, port, stub, method, request):
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        return getattr(stub(channel), method)(request, timeout=20, wait_for_ready=True)


def main(folder):
    with (
        meowlink.Daemon("hub", "--data-dir", folder),
        meowlink.Daemon("cat-node", "--source", "synthetic"),
    ):
        for port in (5000, 50051, 50055, 50056, 50057):
            meowlink.wait_for_port(port)
        for host in HOSTS:
            answer = call(host, 50051, owner_pb2_grpc.OwnerStub, "Notify", owner_pb2.NotifyRequest(animalName="Tom", animalType="cat"))
            assert answer.message == "Owner of Tom cat is notified", (host, answer)
            answer = call(host, 50055, dog_pb2_grpc.dogStub, "CallDog", dog_pb2.DogRequest(dogName="Rex"))
            assert answer.dogBark == "Rex is going to bark!", (host, answer)
            answer = call(host, 50056, cat_pb2_grpc.catStub, "CallCat", cat_pb2.CatRequest(catName="Tom"))
            assert answer.catMeaw == "Tom: MEEEWWWWW", (host, answer)
            request = catAnalysis_pb2.AnalysisRequest(catName="Tom")
            answer = call(host, 50057, catAnalysis_pb2_grpc.catAnalysisStub, "AnalyzeSound", request)
            assert answer.result == "Analyzing Tom ...", (host, answer)
            for path, body in [("cat/Tom", '{"catMeaw":"Tom: MEEEWWWWW"}\n'), ("dog/Rex", '{"dogBark":"Rex is going to bark!"}\n')]:
                with urllib.request.urlopen(f"http://{host}:5000/{path}", timeout=20) as http:
                    assert http.read().decode() == body, host
    print("all default addresses answer")


main(sys.argv[1])
