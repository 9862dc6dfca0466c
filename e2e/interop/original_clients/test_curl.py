"""The gateway, called by curl."""

import shutil
import subprocess

import pytest

import meowlink

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def curl(hub, *arguments):
    *options, path = arguments
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", str(meowlink.SOON_S), *options]
    finished = subprocess.run([*command, f"http://127.0.0.1:{hub.http}{path}"], capture_output=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.decode()


def test_bodies(hub):
    assert curl(hub, "/cat/Tom") == '{"catMeaw":"Tom: MEEEWWWWW"}\n'
    assert curl(hub, "/dog/Rex") == '{"dogBark":"Rex is going to bark!"}\n'
    assert curl(hub, "/analyze/Tom") == '{"result":"Analyzing Tom ..."}\n'


def test_names_as_a_shell_passes_them(hub):
    assert curl(hub, "/dog/Jörg") == '{"dogBark":"Jörg is going to bark!"}\n'
    assert curl(hub, "/dog/%F0%9F%90%B6") == '{"dogBark":"🐶 is going to bark!"}\n'
    assert curl(hub, "--path-as-is", "/dog/..") == '{"dogBark":".. is going to bark!"}\n'


def test_head_has_headers_and_no_body(hub):
    answer = curl(hub, "--head", "/cat/Tom")
    assert answer.startswith("HTTP/1.1 200 OK\r\n") and "content-type: application/json" in answer.lower()
    assert answer.endswith("\r\n\r\n")


def test_wrong_method_and_unknown_path(hub):
    codes = [curl(hub, "-o", "/dev/null", "-w", "%{http_code}", *request) for request in [("-X", "POST", "/cat/Tom"), ("/cow/Berta",)]]
    assert codes == ["405", "404"]


def test_http_2_and_1_0_clients(hub):
    assert curl(hub, "--http1.0", "/cat/Tom") == '{"catMeaw":"Tom: MEEEWWWWW"}\n'
    assert curl(hub, "--http2", "/cat/Tom") == '{"catMeaw":"Tom: MEEEWWWWW"}\n'
