"""A minimal gateway with Flask and grpcio: what one would write today instead of the original.

    flask_gateway.py waitress|original PORT NODE_ADDRESS

`waitress`: served by waitress, with a thread per connection and one channel that all requests share. `original`: like
the original, with Flask's own threaded server and a new channel per request.
"""

import sys

import cat_pb2
import cat_pb2_grpc
import flask
import grpc
import waitress

THREADS = 64


def app_for(stub):
    """An app with the one route. `stub()` returns a context manager for a stub."""
    app = flask.Flask(__name__)

    @app.route("/cat/<name>")
    def cat(name):
        with stub() as cat_stub:
            answer = cat_stub.CallCat(cat_pb2.CatRequest(catName=name))
        return {"catMeaw": answer.catMeaw}

    return app


class Shared:
    """A stub on a channel that stays open."""

    def __init__(self, node):
        self.stub = cat_pb2_grpc.catStub(grpc.insecure_channel(node))

    def __call__(self):
        return self

    def __enter__(self):
        return self.stub

    def __exit__(self, *_):
        pass


class Anew:
    """A stub on a new channel each time."""

    def __init__(self, node):
        self.node = node

    def __call__(self):
        return Anew(self.node)

    def __enter__(self):
        self.channel = grpc.insecure_channel(self.node)
        return cat_pb2_grpc.catStub(self.channel)

    def __exit__(self, *_):
        self.channel.close()


if __name__ == "__main__":
    kind, port, node = sys.argv[1:]
    if kind == "waitress":
        waitress.serve(app_for(Shared(node)), host="127.0.0.1", port=int(port), threads=THREADS, connection_limit=1000)
    else:
        app_for(Anew(node)).run(host="127.0.0.1", port=int(port), threaded=True)
