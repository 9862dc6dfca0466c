"""An owner in Python, a cat-node that notifies it, and a hub in front of the node."""

import concurrent.futures

import grpc
import owner_pb2
import owner_pb2_grpc
import pytest

import meowlink


class Owner(owner_pb2_grpc.OwnerServicer):
    """Keeps what it was notified about, and answers as the original does."""

    def __init__(self):
        self.notified = []

    def Notify(self, request, context):
        self.notified.append((request.animalName, request.animalType))
        return owner_pb2.NotifyResponse(message=f"Owner of {request.animalName} {request.animalType} is notified")


def serve(add, servicer):
    """Serves on a free port. Returns the server and the port."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
    add(servicer, server)
    port = meowlink.free_port()
    assert server.add_insecure_port(f"127.0.0.1:{port}") == port
    server.start()
    return server, port


@pytest.fixture(scope="session")
def owner():
    """An owner that is a Python server like the original."""
    servicer = Owner()
    server, servicer.port = serve(owner_pb2_grpc.add_OwnerServicer_to_server, servicer)
    yield servicer
    server.stop(None)


@pytest.fixture(scope="session")
def node(owner):
    """A cat-node that notifies the Python owner."""
    with meowlink.Node(f"http://127.0.0.1:{owner.port}") as node:
        yield node


@pytest.fixture(scope="session")
def hub(node):
    """A hub in front of that node."""
    with meowlink.Hub(node.target) as hub:
        yield hub
