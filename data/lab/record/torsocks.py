"""Programs that know no SOCKS proxy reach one through torsocks."""

from __future__ import annotations

import threading

from .host import Host


def through_proxy(client: Host, argv: list) -> list:
    """The command as this client must run it: as it is, or behind torsocks where the session has to go through a proxy."""
    if client.proxy is None:
        return argv
    address, port = client.proxy.split(":")
    configuration = client.folder / "torsocks.conf"
    # Some programs wake their own threads through a loopback connection, which torsocks refuses unless told otherwise.
    text = f"TorAddress {address}\nTorPort {port}\nAllowOutboundLocalhost 1\n"
    if not configuration.exists() or configuration.read_text() != text:
        fresh = configuration.with_suffix(f".{threading.get_ident()}")
        fresh.write_text(text)
        fresh.replace(configuration)
    return ["env", f"TORSOCKS_CONF_FILE={configuration}", "torsocks", *argv]


def reachable_name(client: Host, server: Host) -> str:
    """How a client names the server: by host name, or by address where the name could only be resolved at the far end of a proxy."""
    return server.hostname if client.proxy is None else server.address
