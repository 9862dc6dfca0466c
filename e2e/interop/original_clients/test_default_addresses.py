"""The ports of the original, on both loopback addresses. In a network namespace of its own where the system allows it, so that
whatever else runs on the machine is not in the way."""

import os
import pathlib
import subprocess
import sys

import pytest

import meowlink

PROBE = pathlib.Path(__file__).with_name("default_addresses.py")
OWN_NETWORK = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def has_own_network():
    try:
        return subprocess.run([*OWN_NETWORK, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def ports_are_free():
    return all(meowlink.port_is_free(port) for port in (5000, 50051, 50055, 50056, 50057))


def test_daemons_without_arguments_serve_the_originals_clients(tmp_path):
    command = [sys.executable, str(PROBE), str(tmp_path)]
    if has_own_network():
        command = OWN_NETWORK + command
    elif not ports_are_free():
        pytest.skip("the default ports are taken, and this system gives no network namespace")
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stdout.splitlines()[-1] == "all default addresses answer"
