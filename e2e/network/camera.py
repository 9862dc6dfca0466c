#!/usr/bin/python3
"""Cameras for the tests of network sources: an RTSP server on 127.0.0.1 with a stream for each kind of sound.

camera.py PORT AAC.m4a     prints "ready" once it listens. Needs gir1.2-gst-rtsp-server-1.0 and python3-gi.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

TONE = "audiotestsrc is-live=true freq=440 volume=0.5 samplesperbuffer=160"
PICTURES = "videotestsrc is-live=true ! video/x-raw,format=I420,width=160,height=120,framerate=10/1 ! jpegenc ! rtpjpegpay"

STREAMS = {
    "/alaw": f"( {TONE} ! audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay0 )",
    "/mulaw": f"( {TONE} ! audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay name=pay0 )",
    "/l16": f"( {TONE} ! audio/x-raw,rate=16000,channels=2 ! rtpL16pay name=pay0 )",
    "/both": f"( {PICTURES} name=pay0 {TONE} ! audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay1 )",
    "/video": f"( {PICTURES} name=pay0 )",
    "/udp": f"( {TONE} ! audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay0 )",
    "/locked": f"( {TONE} ! audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay0 )",
}


def main() -> None:
    port, aac = sys.argv[1:]
    Gst.init(None)
    streams = STREAMS | {"/aac": f"( filesrc location={aac} ! qtdemux ! aacparse ! rtpmp4gpay name=pay0 )"}
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_digest("anna", "pa:ss", token)
    anybody = GstRtspServer.RTSPToken()
    anybody.set_string("media.factory.role", "anybody")
    auth.set_default_token(anybody)
    server.set_auth(auth)
    for path, launch in streams.items():
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(launch)
        factory.set_shared(path != "/aac")
        if path == "/udp":
            factory.set_protocols(GstRtsp.RTSPLowerTrans.UDP)
        for role in ["user", "anybody"]:
            # Without "construct", whoever is not logged in is asked to.
            allowed = "false" if path == "/locked" and role == "anybody" else "true"
            rule = f"{role}, media.factory.access=(boolean)true, media.factory.construct=(boolean){allowed}"
            factory.add_role_from_structure(Gst.Structure.new_from_string(rule))
        server.get_mount_points().add_factory(path, factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


main()
