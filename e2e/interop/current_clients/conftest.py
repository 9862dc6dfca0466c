"""A cat-node and a hub in front of it."""

import pytest

import meowlink


@pytest.fixture(scope="session")
def node():
    """A cat-node with a synthetic source, whose owner does not run."""
    with meowlink.Node("http://127.0.0.1:1") as node:
        yield node


@pytest.fixture(scope="session")
def hub(node):
    """A hub in front of that node."""
    with meowlink.Hub(node.target) as hub:
        yield hub
