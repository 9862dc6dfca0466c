"""Measures a node with a hub, and the gateway, each with TLS and without, and prints tables. Started by `run`."""

import argparse
import contextlib
import os
import pathlib
import platform
import re
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from loading import BINARIES, free_port, load, middle, running

CONNECTIONS = [1, 16]

# How long a start may take, and how long a node and its hub settle before they are measured, in seconds.
SOON_S = 60
SETTLE_S = 3

# The aim: memory of a node with TLS, in millions of bytes.
AIM_RSS_MB = 14

# The gateway's certificate is from an authority of its own, which this does not check.
UNCHECKED = ssl.create_default_context()
UNCHECKED.check_hostname = False
UNCHECKED.verify_mode = ssl.CERT_NONE


def printed(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout


def until(what, ask):
    """Asks until the answer is not None, and returns it."""
    end = time.monotonic() + SOON_S
    while True:
        try:
            answer = ask()
        except (OSError, subprocess.CalledProcessError):
            answer = None
        if answer is not None:
            return answer
        assert time.monotonic() < end, f"{what}: not within {SOON_S} s"
        time.sleep(0.1)


def get(url):
    with urllib.request.urlopen(url, timeout=5, context=UNCHECKED) as answer:
        return answer.read().decode()


def metric(node_at, name):
    """The value of a metric of the node."""
    found = re.search(rf"^{name} (\S+)$", get(f"http://{node_at}/metrics"), re.MULTILINE)
    return float(found[1]) if found else None


def cpu_s(process):
    """Processor time that a process has used, by the scheduler, all threads that it has now."""
    tasks = pathlib.Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def rss_mb(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)[1]) * 1024 / 1e6


@contextlib.contextmanager
def node_and_hub(kind):
    """A node and its hub: `idle` has no hub, `plain` one without TLS, `TLS` one that is paired."""
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        state, data = folder / "state", folder / "data"
        node_at, owner_at = (f"127.0.0.1:{free_port()}" for _ in range(2))
        words = ["--listen", node_at, "--owner", f"http://{owner_at}", "--cat", "Tom", "--source", "synthetic"]
        node = stack.enter_context(running(BINARIES / "cat-node", *words, "--state-dir", state))
        until("the node runs", lambda: metric(node_at, "meowlink_node_subscribers"))
        if kind == "idle":
            yield node_at, node, None, None
            return
        http = free_port()
        words = ["--owner", owner_at, "--http", f"0.0.0.0:{http}", "--data-dir", data]
        for role in ("dog", "analysis"):
            words += [f"--{role}", f"127.0.0.1:{free_port()}"]
        if kind == "plain":
            words += ["--node", f"Tom=http://{node_at}"]
        hub = stack.enter_context(running(BINARIES / "hub", *words))
        until("the hub runs", lambda: get(f"http://127.0.0.1:{http}/healthz"))
        if kind == "TLS":
            code = printed(BINARIES / "cat-node", "pair", "--state-dir", state).split()[0]
            until("they are paired", lambda: printed(BINARIES / "hub", "pair", code, node_at, "--data-dir", data))
            hubs = printed(BINARIES / "cat-node", "hubs", "--state-dir", state)
            assert len(hubs.split()[0]) == 64, hubs
        until("the hub listens", lambda: metric(node_at, "meowlink_node_subscribers") == 1 or None)
        yield node_at, node, hub, http


def measure_node(kind, seconds):
    """Processor time a second in µs, and memory in millions of bytes."""
    with node_and_hub(kind) as (node_at, node, _, _):
        time.sleep(SETTLE_S)
        start, before = time.monotonic(), cpu_s(node)
        time.sleep(seconds)
        used = (cpu_s(node) - before) / (time.monotonic() - start)
        subscribers = metric(node_at, "meowlink_node_subscribers")
        assert subscribers == (0 if kind == "idle" else 1), f"{kind}: {subscribers} subscribers"
        return {"cpu": 1e6 * used, "rss": rss_mb(node)}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=int, default=10)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    print(f"\n{os.cpu_count()} x {cpu}, {platform.system()} {platform.release()}; programs in {BINARIES};")
    print(f"{options.seconds} s each, the median of {options.rounds} runs that take turns.\n")

    kinds = ["idle", "plain", "TLS"]
    nodes = {kind: [] for kind in kinds}
    for _ in range(options.rounds):
        for kind in kinds:
            nodes[kind].append(measure_node(kind, options.seconds))
    idle = statistics.median(run["cpu"] for run in nodes["idle"])
    print(f"{'node with':>12} {'CPU us/s':>9} {'us/s a stream':>14} {'RSS MB':>7}")
    for kind in kinds:
        used = statistics.median(run["cpu"] for run in nodes[kind])
        rss = statistics.median(run["rss"] for run in nodes[kind])
        stream = "" if kind == "idle" else f"{used - idle:.0f}"
        print(f"{'no hub' if kind == 'idle' else f'a hub, {kind}':>12} {used:>9.0f} {stream:>14} {rss:>7.1f}")
    most = max(run["rss"] for run in nodes["TLS"])
    print(f"memory with TLS: {most:.1f} MB at most, aim at most {AIM_RSS_MB}: {'met' if most <= AIM_RSS_MB else 'MISSED'}\n")

    results = {(scheme, count): [] for count in CONNECTIONS for scheme in ("http", "https")}
    with node_and_hub("plain") as (_, node, hub, http):
        for scheme in ("http", "https"):
            url = f"{scheme}://127.0.0.1:{http}/cat/Tom"
            assert "MEEEWWWWW" in until("the gateway answers", lambda: get(url))
            load(url, 16, 1, [node, hub])
        for _ in range(options.rounds):
            for scheme, count in results:
                url = f"{scheme}://127.0.0.1:{http}/cat/Tom"
                results[scheme, count].append(load(url, count, options.seconds, [node, hub]))
    print("GET /cat/Tom with keep-alive; CPU is that of hub and node, without wrk.\n")
    print(f"{'connections':>11} {'by':>6} {'requests/s':>11} {'CPU us/req':>11} {'p99 ms':>7} {'of plain':>9}")
    for scheme, count in results:
        run, plain = middle(results[scheme, count]), middle(results["http", count])
        share = f"{100 * run['rate'] / plain['rate']:.0f} %"
        print(f"{count:>11} {scheme:>6} {run['rate']:>11.0f} {sum(run['cpu']):>11.1f} {run['p99']:>7.2f} {share:>9}")


main()
