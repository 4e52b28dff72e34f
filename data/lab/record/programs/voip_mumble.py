"""People who talk on a Mumble server by pymumble.

pymumble 1.6.1 carries voice inside its TLS connection only. With `--udp` this program adds what Mumble's own client does first: voice in
UDP datagrams under OCB2-AES128 with the key that the server sends over TLS, after a ping that the server answers
(https://mumble-protocol.readthedocs.io/en/latest/voice_data.html).
"""

import faulthandler
import random
import select
import socket
import ssl
import struct
import sys
import threading
import time
import wave

import conversation
import transport_security

parser = transport_security.arguments(__doc__)
parser.add_argument("--speech", action="append", required=True, help="WAV, 48 kHz mono; once per person")
parser.add_argument("--packet", type=int, default=20, help="milliseconds of audio in a packet")
parser.add_argument("--bandwidth", type=int, default=48_000, help="bit/s with headers")
parser.add_argument("--udp", action="store_true")
options = parser.parse_args()


def wrap_socket(sock, **_ignored):
    """pymumble calls `ssl.wrap_socket`, which checks no certificate and is gone from Python 3.12."""
    context = transport_security.client_context(options.authority, options.tls, random.Random(options.seed))
    return context.wrap_socket(sock, server_hostname=options.hostname)


ssl.wrap_socket = wrap_socket

import pymumble_py3  # noqa: E402
from pymumble_py3 import constants, mumble_pb2  # noqa: E402
from pymumble_py3.crypto import CryptStateOCB2, DecryptFailedException, EncryptFailedException  # noqa: E402

PING = 1 << 5


class Voice:
    """The UDP half of a connection: encrypts what leaves, counts what arrives."""

    def __init__(self, setup):
        self.crypt = CryptStateOCB2()
        self.crypt.set_key(setup.key, bytearray(setup.client_nonce), bytearray(setup.server_nonce))
        self.lock = threading.Lock()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect((options.address, options.port))
        self.socket.settimeout(0.5)
        self.answered = threading.Event()
        self.received = 0
        self.closed = False
        threading.Thread(target=self.listen, daemon=True).start()

    def send(self, plain: bytes) -> None:
        with self.lock:
            try:
                # pymumble pads the last block; the protocol does not.
                self.socket.send(self.crypt.encrypt(plain)[: len(plain) + 4])
            except (EncryptFailedException, ConnectionRefusedError):
                pass

    def ping(self) -> None:
        self.send(struct.pack("!BBQ", PING, 0xF4, time.monotonic_ns()))

    def listen(self) -> None:
        while not self.closed:
            try:
                sealed = self.socket.recv(2048)
                plain = self.crypt.decrypt(sealed, len(sealed) - 4)
            except (TimeoutError, OSError, DecryptFailedException):
                continue
            if plain[0] == PING:
                self.answered.set()
            else:
                self.received += 1

    def close(self) -> None:
        self.closed = True
        self.socket.close()


class Diverted:
    """The TLS connection, with voice packets diverted to UDP once the server has answered there."""

    def __init__(self, connection, person):
        self._connection, self._person = connection, person

    def send(self, data) -> int:
        voice = self._person.voice
        if voice is not None and voice.answered.is_set() and struct.unpack("!H", data[:2])[0] == constants.PYMUMBLE_MSG_TYPES_UDPTUNNEL:
            voice.send(bytes(data[6:]))
            return len(data)
        # The connection does not block, and pymumble takes "try again" for its end.
        while True:
            try:
                return self._connection.send(data)
            except ssl.SSLWantWriteError:
                select.select([], [self._connection], [], 5)
            except ssl.SSLWantReadError:
                select.select([self._connection], [], [], 5)

    def recv(self, size) -> bytes:
        # What TLS has decrypted already does not wake a select.
        data = self._connection.recv(size)
        while self._connection.pending():
            data += self._connection.recv(self._connection.pending())
        return data

    def __getattr__(self, name):
        return getattr(self._connection, name)


class Person(pymumble_py3.Mumble):
    """One user on the server."""

    voice = None
    received = 0

    def connect(self):
        state = super().connect()
        if self.control_socket is not None and state != constants.PYMUMBLE_CONN_STATE_FAILED:
            self.control_socket = Diverted(self.control_socket, self)
        return state

    def dispatch_control_message(self, kind, message):
        if kind == constants.PYMUMBLE_MSG_TYPES_CRYPTSETUP and options.udp and self.voice is None:
            setup = mumble_pb2.CryptSetup()
            setup.ParseFromString(message)
            self.voice = Voice(setup)
        if kind == constants.PYMUMBLE_MSG_TYPES_UDPTUNNEL:
            self.received += 1
        super().dispatch_control_message(kind, message)


def main() -> None:
    # Threads of pymumble may wait for one another for good: then say where, and fail.
    faulthandler.dump_traceback_later(options.seconds + 70, exit=True)
    rng = random.Random(options.seed)
    people, speeches = [], []
    for name, path in zip(conversation.names(rng, len(options.speech)), options.speech):
        person = Person(options.address, name, port=options.port)
        person.daemon = True
        person.start()
        if not person.ready_lock.acquire(timeout=20) or person.connected != constants.PYMUMBLE_CONN_STATE_CONNECTED:
            raise RuntimeError(f"{name} could not log in at {options.address}:{options.port}")
        person.ready_lock.release()
        person.sound_output.set_audio_per_packet(options.packet / 1000)
        person.set_bandwidth(options.bandwidth)
        if options.udp:
            for _ in range(10):
                person.voice.ping()
                if person.voice.answered.wait(0.5):
                    break
            else:
                raise RuntimeError("no answer to pings over UDP")
        with wave.open(path) as file:
            speeches.append(file.readframes(file.getnframes()))
        people.append(person)
        time.sleep(rng.uniform(0, 0.4))
    end = time.monotonic() + options.seconds
    at = [0] * len(people)
    while time.monotonic() < end:
        index = rng.randrange(len(people))
        if not people[index].is_alive():
            raise RuntimeError("the connection ended early")
        seconds = min(rng.uniform(0.6, 2.5), max(0.5, end - time.monotonic()))
        # Sixteen bits at 48 kHz.
        length = int(seconds * 48_000) * 2
        start = at[index] % max(1, len(speeches[index]) - length)
        start -= start % 2
        people[index].sound_output.add_sound(speeches[index][start : start + length])
        at[index] = start + length
        if rng.random() < 0.1:
            people[index].my_channel().send_text_message(conversation.message(rng))
        if options.udp and rng.random() < 0.3:
            people[index].voice.ping()
        time.sleep(seconds + rng.uniform(-0.2, 0.4))
    received = 0
    for person in people:
        person.stop()
        person.join(3)
        received += person.received + (person.voice.received if person.voice else 0)
        if person.voice:
            person.voice.close()
    if received == 0:
        raise RuntimeError("nobody heard anything")
    print(f"{received} voice packets received")


if __name__ == "__main__":
    sys.exit(main())
