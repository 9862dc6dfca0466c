"""What each gRPC server has besides its own calls: health, reflection, status codes that distinguish failures."""

import cat_pb2
import cat_pb2_grpc
import catAnalysis_pb2
import catAnalysis_pb2_grpc
import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import meowlink


@pytest.fixture
def servers(node, hub):
    """Returns port and service of each gRPC server."""
    return {node.port: "proto.cat", hub.owner: "proto.Owner", hub.dog: "proto.dog", hub.analysis: "proto.catAnalysis"}


def test_health_is_serving_for_the_server_and_each_service(servers):
    for port, service in servers.items():
        with meowlink.channel(port) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for name in ["", service]:
                answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING, (service, name)
            with pytest.raises(grpc.RpcError) as error:
                stub.Check(health_pb2.HealthCheckRequest(service="proto.cow"), timeout=10)
            assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_services_and_their_calls(servers):
    for port, service in servers.items():
        with meowlink.channel(port) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            assert service in database.get_services()
            pool = descriptor_pool.DescriptorPool(database)
            assert pool.FindServiceByName(service).methods


def test_an_owner_that_is_down_is_unavailable(node):
    with meowlink.channel(node.port) as channel, pytest.raises(grpc.RpcError) as error:
        cat_pb2_grpc.catStub(channel).CallCat(cat_pb2.CatRequest(catName="Tom"), timeout=20)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "owner" in error.value.details()


def test_an_analysis_answers_its_id(hub):
    with meowlink.channel(hub.analysis) as channel:
        stub = catAnalysis_pb2_grpc.catAnalysisStub(channel)
        answer = stub.AnalyzeSound(catAnalysis_pb2.AnalysisRequest(catName="Tom"), timeout=10)
    assert answer.result == "Analyzing Tom ..."
    status, body = hub.get(f"/api/v1/analyses/{answer.analysis_id}")
    assert status == 200 and b'"Tom"' in body


def test_many_analyses_at_once_are_refused_not_queued():
    with meowlink.Node("http://127.0.0.1:1") as node, meowlink.Hub(node.target) as hub, meowlink.channel(hub.analysis) as channel:
        stub = catAnalysis_pb2_grpc.catAnalysisStub(channel)
        codes = []
        for _ in range(200):
            try:
                stub.AnalyzeSound(catAnalysis_pb2.AnalysisRequest(catName="Tom"), timeout=10)
            except grpc.RpcError as error:
                codes.append(error.code())
                break
        assert codes == [grpc.StatusCode.RESOURCE_EXHAUSTED]
        status, body = hub.get("/analyze/Tom")
        assert status == 429 and b"too_many_analyses" in body
        assert hub.get("/dog/Rex")[0] == 200
