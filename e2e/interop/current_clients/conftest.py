"""The daemons, each the other's partner."""

import pytest

import meowlink


@pytest.fixture(scope="session")
def node():
    """A synthetic cat-node whose owner is not there."""
    with meowlink.Node("http://127.0.0.1:1") as node:
        yield node


@pytest.fixture(scope="session")
def hub(node):
    """A hub in front of that node."""
    with meowlink.Hub(node.target) as hub:
        yield hub
