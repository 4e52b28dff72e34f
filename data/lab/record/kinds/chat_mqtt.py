"""Chat over MQTT with TLS: mosquitto, and people who publish to the topic of their conversation by paho-mqtt."""

from __future__ import annotations

import random

from ..host import Host
from ..kind import Kind, Lab, listening, wait_until
from ..torsocks import through_proxy

KIND = Kind(
    name="chat_mqtt",
    category="chat",
    application="mqtt_chat",
    tunnels=("non_vpn", "vpn", "tor"),
    packages=("mosquitto", "torsocks"),
    python=("paho-mqtt==2.2.0",),
)


def serve(server: Host, lab: Lab) -> None:
    """mosquitto on two TLS ports: plain MQTT, and MQTT in WebSockets."""
    certificate, key = lab.certificate(server)
    folder = server.folder / "mosquitto"
    folder.mkdir(exist_ok=True)
    configuration = folder / "mosquitto.conf"
    listeners = "".join(
        f"listener {server.port(index)} {server.address}\nprotocol {protocol}\ncertfile {certificate}\nkeyfile {key}\n"
        for index, protocol in enumerate(["mqtt", "websockets"])
    )
    configuration.write_text(f"user root\npersistence false\nallow_anonymous true\nlog_dest stdout\nper_listener_settings false\n{listeners}")
    server.spawn(["mosquitto", "-c", configuration], log="mosquitto")
    for index in (0, 1):
        wait_until(lambda: listening(server, server.port(index)), timeout=30, what="mosquitto")


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    """Two to four people share a topic; presence is a retained message and a last will."""
    transport = rng.choice(["tcp", "tcp", "websockets"])
    argv = [
        lab.python, lab.programs / "chat_mqtt.py", "--address", server.address, "--hostname", server.hostname,
        "--port", server.port(1 if transport == "websockets" else 0), "--authority", lab.authority, "--seconds", round(rng.uniform(3, 8), 2),
        "--seed", rng.getrandbits(32), "--tls", rng.choice(["1.2", "1.3", "1.3"]), "--people", rng.choice([2, 2, 3, 4]), "--transport", transport,
    ]
    client.run(through_proxy(client, argv), timeout=90)
