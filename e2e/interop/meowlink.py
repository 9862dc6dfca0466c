"""Starts the daemons on free ports. The tests of both sets of stubs use it."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import grpc

BINARIES = pathlib.Path(os.environ["MEOWLINK_BINARIES"])

# Deadline for what takes milliseconds on an idle machine.
SOON_S = 30


def free_port():
    """Returns a free port, below those that Linux uses for outgoing connections."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    start = 12_000 + worker * 500
    while True:
        port = start + free_port.used % 500
        free_port.used += 1
        if port_is_free(port):
            return port


free_port.used = os.getpid() % 100


def port_is_free(port):
    """Returns whether a port of 127.0.0.1 is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def until(what, ask, deadline_s=SOON_S):
    """Asks repeatedly until the answer is true, and returns it."""
    end = time.monotonic() + deadline_s
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.02)


class Daemon:
    """A program that runs until the end of the test. If the test fails, its log is shown."""

    def __init__(self, program, *arguments):
        self.log = tempfile.NamedTemporaryFile(prefix=f"{program}-", suffix=".log")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MEOWLINK_NODE_", "MEOWLINK_HUB_", "CAT_NODE_", "HUB_"))}
        command = [BINARIES / program, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, env=environment)

    def stop(self):
        """Sends SIGTERM and returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SOON_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        print(f"--- log of {self.process.args[0].name} ---")
        print(pathlib.Path(self.log.name).read_text(errors="replace")[-8000:])


class Node(Daemon):
    """A cat-node with a synthetic source."""

    def __init__(self, owner_url, cat="Tom", seed=1):
        self.port = free_port()
        self.target = f"127.0.0.1:{self.port}"
        super().__init__(
            "cat-node", "serve", "--listen", self.target, "--owner", owner_url, "--cat", cat, "--source", "synthetic", "--seed", seed
        )
        wait_for_port(self.port)


class Hub(Daemon):
    """A hub with all roles and a data folder of its own."""

    def __init__(self, node_target, cat="Tom"):
        self.folder = tempfile.TemporaryDirectory()
        self.http, self.owner, self.dog, self.analysis = (free_port() for _ in range(4))
        flags = [("http", self.http), ("owner", self.owner), ("dog", self.dog), ("analysis", self.analysis)]
        arguments = [word for flag, port in flags for word in (f"--{flag}", f"127.0.0.1:{port}")]
        super().__init__("hub", "serve", *arguments, "--node", f"{cat}=http://{node_target}", "--data-dir", self.folder.name,
                         "--discover=false")
        for _, port in flags:
            wait_for_port(port)

    def get(self, path):
        """Returns status and body of a GET."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=SOON_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read()

    def analyses(self):
        """Returns the stored analyses, the newest first."""
        status, body = self.get("/api/v1/analyses")
        assert status == 200, body
        return json.loads(body)["analyses"]


def wait_for_port(port):
    def connects():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(f"port {port} listens", connects)


def channel(port):
    """Opens a channel to a port, as the original's clients do."""
    return grpc.insecure_channel(f"127.0.0.1:{port}")
