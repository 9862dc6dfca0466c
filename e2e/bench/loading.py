"""Starts programs and loads them with wrk, for the measurements next to this file."""

import contextlib
import os
import pathlib
import re
import socket
import subprocess

BINARIES = pathlib.Path(os.environ["MEOWLINK_BINARIES"])
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(*command):
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def cpu_s(processes):
    """CPU time that processes have used, user and system, all threads."""
    total = 0
    for process in processes:
        stat = pathlib.Path(f"/proc/{process.pid}/stat").read_text()
        fields = stat[stat.rindex(")") + 2 :].split()
        total += int(fields[11]) + int(fields[12])
    return total * TICK_S


def load(url, connections, seconds, processes):
    """Requests per second, CPU µs per request of each process, and the latency at p50 and p99 in ms."""
    before = [cpu_s([process]) for process in processes]
    command = ["wrk", "--threads", "1", "--connections", connections, "--duration", f"{seconds}s", "--latency", url]
    report = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout
    used = [cpu_s([process]) - earlier for process, earlier in zip(processes, before)]
    assert "Non-2xx" not in report and "Socket errors" not in report, report
    requests = int(re.search(r"(\d+) requests in", report)[1])
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", report)[1])
    p50, p99 = (milliseconds(re.search(rf"^ +{percent}%\s+(\S+)", report, re.MULTILINE)[1]) for percent in (50, 99))
    return {"rate": rate, "cpu": [1e6 * one / requests for one in used], "p50": p50, "p99": p99}


def milliseconds(text):
    value, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def middle(runs):
    """The run with the median rate."""
    return sorted(runs, key=lambda run: run["rate"])[len(runs) // 2]
