"""Offers clip-N-R.mp4 of a folder by RTSP and, at a second port, RTSPS; sends H.264 and AAC as they are in the files.

It runs under Debian's own Python, which the GStreamer bindings (python3-gi) belong to.
"""

import argparse
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtspServer  # noqa: E402


def server(options, port: int, certificate: Gio.TlsCertificate | None) -> GstRtspServer.RTSPServer:
    """A server at this port, with TLS where a certificate is given."""
    made = GstRtspServer.RTSPServer()
    made.set_address(options.address)
    made.set_service(str(port))
    mounts = made.get_mount_points()
    for clip in sorted(Path(options.media).glob("clip-*.mp4")):
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(
            f"( filesrc location={clip} ! qtdemux name=film film. ! queue ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 "
            "film. ! queue ! aacparse ! rtpmp4gpay name=pay1 pt=97 )"
        )
        mounts.add_factory(f"/{clip.stem}", factory)
    if certificate is not None:
        auth = GstRtspServer.RTSPAuth()
        auth.set_tls_certificate(certificate)
        # Whoever is at the other end may look: TLS here is for the way, not for access.
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "anyone")
        auth.set_default_token(token)
        for clip in sorted(Path(options.media).glob("clip-*.mp4")):
            factory = mounts.match(f"/{clip.stem}")[0]
            permissions = GstRtspServer.RTSPPermissions()
            structure = Gst.Structure.new_from_string("anyone, media.factory.access=(boolean)true, media.factory.construct=(boolean)true")
            permissions.add_role_from_structure(structure)
            factory.set_permissions(permissions)
        made.set_auth(auth)
    if made.attach(None) == 0:
        raise SystemExit(f"cannot listen at {options.address}:{port}")
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("address", "certificate", "key", "media"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tls-port", type=int, required=True)
    options = parser.parse_args()
    Gst.init(None)
    servers = [
        server(options, options.port, None),
        server(options, options.tls_port, Gio.TlsCertificate.new_from_files(options.certificate, options.key)),
    ]
    GLib.MainLoop().run()
