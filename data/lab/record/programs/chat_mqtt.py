"""People who chat over MQTT with TLS: each has a connection, all publish and subscribe to the topic of their conversation."""

import json
import random
import socket
import ssl
import sys
import threading
import time

import paho.mqtt.client as mqtt

import conversation
import transport_security


class NamedContext:
    """A TLS context that sends the server's name although the connection is made to its address."""

    def __init__(self, context: ssl.SSLContext, hostname: str):
        self._context, self._hostname = context, hostname

    def wrap_socket(self, sock: socket.socket, **options):
        return self._context.wrap_socket(sock, **{**options, "server_hostname": self._hostname})

    def __getattr__(self, name):
        return getattr(self._context, name)


def main(options) -> None:
    rng = random.Random(options.seed)
    names = conversation.names(rng, options.people)
    topic = f"chat/{rng.choice(conversation.WORDS)}{rng.randrange(10_000)}"
    received = []
    people = []
    version = rng.choice([mqtt.MQTTv311, mqtt.MQTTv5])
    for name in names:
        ready = threading.Event()
        person = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"{name}-{rng.getrandbits(32):08x}", protocol=version, transport=options.transport)
        alpn = ["http/1.1"] if options.transport == "websockets" else None
        context = transport_security.client_context(options.authority, options.tls, rng, alpn)
        person.tls_set_context(context)
        person._ssl_context = NamedContext(context, options.hostname)
        person.username_pw_set(name, f"{rng.getrandbits(60):x}")
        person.will_set(f"{topic}/presence/{name}", "gone", qos=1, retain=False)
        person.on_message = lambda _client, _data, message: received.append(message.topic)
        person.on_subscribe = lambda *_arguments, ready=ready: ready.set()
        person.on_connect = lambda client, *_arguments: client.subscribe(f"{topic}/#", qos=1)
        person.connect(options.address, options.port, keepalive=20)
        person.loop_start()
        if not ready.wait(20):
            raise RuntimeError(f"no subscription within 20 s at {options.address}:{options.port}")
        person.publish(f"{topic}/presence/{name}", "here", qos=1)
        people.append(person)
        time.sleep(rng.uniform(0, 0.4))
    end = time.monotonic() + options.seconds
    sent = 0
    while sent == 0 or time.monotonic() < end:
        index = rng.randrange(len(people))
        body = json.dumps({"from": names[index], "id": f"{rng.getrandbits(64):x}", "text": conversation.message(rng)})
        people[index].publish(topic, body, qos=rng.choice([0, 1, 1]))
        sent += 1
        time.sleep(conversation.pause(rng))
    time.sleep(0.4)
    for person in people:
        person.disconnect()
        person.loop_stop()
    messages = sum(1 for name in received if name == topic)
    if messages == 0:
        raise RuntimeError(f"{sent} messages sent, none received")
    print(f"{sent} sent, {messages} received")


parser = transport_security.arguments(__doc__)
parser.add_argument("--people", type=int, default=2)
parser.add_argument("--transport", choices=["tcp", "websockets"], default="tcp")
if __name__ == "__main__":
    sys.exit(main(parser.parse_args()))
