"""Loads each gateway with wrk in turn, and prints a table. Started by `run`."""

import argparse
import contextlib
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from loading import BINARIES, free_port, load, middle, running

CONNECTIONS = [1, 16, 64]
BODY = b'{"catMeaw":"Tom: MEEEWWWWW"}\n'

# The aims, at 16 connections.
AIM_CPU_US = 50
AIM_TIMES_FLASK = 20


def wait_for(url):
    """Waits until it answers as the contract demands."""
    end = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                body = answer.read()
                assert body.replace(b'": "', b'":"') == BODY, body
                return
        except OSError:
            assert time.monotonic() < end, f"{url} does not answer"
            time.sleep(0.1)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=int, default=5)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()

    node_at, owner_at = (f"127.0.0.1:{free_port()}" for _ in range(2))
    http, waitress, original = (free_port() for _ in range(3))
    with contextlib.ExitStack() as stack:

        def start(*command):
            return stack.enter_context(running(*command))

        data = stack.enter_context(tempfile.TemporaryDirectory())
        flags = ["--owner", owner_at, "--http", f"127.0.0.1:{http}", "--node", f"Tom=http://{node_at}", "--data-dir", data]
        for role in ("dog", "analysis"):
            flags += [f"--{role}", f"127.0.0.1:{free_port()}"]
        node = start(BINARIES / "cat-node", "--listen", node_at, "--owner", f"http://{owner_at}", "--source", "synthetic")
        hub = start(BINARIES / "hub", *flags)
        flask = start(sys.executable, HERE / "flask_gateway.py", "waitress", waitress, node_at)
        flask_original = start(sys.executable, HERE / "flask_gateway.py", "original", original, node_at)
        # All are in front of the same node, which notifies the same owner, in the hub.
        gateways = {
            "meowlink": (http, [hub, node]),
            "Flask, waitress, shared channel": (waitress, [flask, hub, node]),
            "Flask, its own server, channel a request": (original, [flask_original, hub, node]),
        }
        results = {(name, count): [] for name in gateways for count in CONNECTIONS}
        for name, (port, processes) in gateways.items():
            wait_for(f"http://127.0.0.1:{port}/cat/Tom")
            load(f"http://127.0.0.1:{port}/cat/Tom", 16, 1, processes)
        for _ in range(options.rounds):
            for count in CONNECTIONS:
                for name, (port, processes) in gateways.items():
                    url = f"http://127.0.0.1:{port}/cat/Tom"
                    results[name, count].append(load(url, count, options.seconds, processes))
    show(results, list(gateways), options)


def show(results, names, options):
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    print(f"GET /cat/Tom, {os.cpu_count()} x {cpu}, {platform.system()} {platform.release()};")
    print(f"wrk with one thread on the same machine, {options.seconds} s, the median of {options.rounds} runs.")
    print("CPU: user and system time of all processes that take part (gateway, node, owner), without wrk.\n")
    print(f"{'connections':>11}  {'gateway':42} {'requests/s':>10} {'CPU us/req':>10} {'gateway':>8} {'p50 ms':>7} {'p99 ms':>7} {'times':>6}")
    best = {}
    for count in CONNECTIONS:
        ours = middle(results[names[0], count])
        for name in names:
            run = middle(results[name, count])
            times = ours["rate"] / run["rate"]
            best[name, count] = (sum(run["cpu"]), times)
            print(
                f"{count:>11}  {name:42} {run['rate']:>10.0f} {sum(run['cpu']):>10.1f} {run['cpu'][0]:>8.1f}"
                f" {run['p50']:>7.2f} {run['p99']:>7.2f} {times:>6.1f}"
            )
    spread = [run["rate"] for run in results[names[0], 16]]
    print(f"\nspread of meowlink at 16 connections: {min(spread):.0f} to {max(spread):.0f} requests/s, {statistics.stdev(spread) if len(spread) > 1 else 0:.0f} deviation")
    used, times = best[names[0], 16][0], best[names[1], 16][1]
    print(f"CPU at 16 connections: {used:.1f} us per request, aim at most {AIM_CPU_US}: {'met' if used <= AIM_CPU_US else 'MISSED'}")
    print(f"rate at 16 connections: {times:.1f} times that of Flask, aim at least {AIM_TIMES_FLASK}: {'met' if times >= AIM_TIMES_FLASK else 'MISSED'}")


main()
