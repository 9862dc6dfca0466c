"""The ports of the original, on both loopback addresses. The test runs in a network namespace of its own if the system
allows that, so that other programs on the machine do not interfere."""

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
        pytest.skip("the default ports are in use, and this system does not allow a network namespace")
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stdout.splitlines()[-1] == "all default addresses answer"
