"""People who chat over XMPP: each logs in with a connection of their own, then they write in one room or to one another."""

import asyncio
import random
import sys

import slixmpp

import conversation
import transport_security


class Person(slixmpp.ClientXMPP):
    """One logged-in user."""

    def __init__(self, jid, password, context, options):
        super().__init__(jid, password)
        self.ssl_context = context
        # The context decides about trust and ciphers; slixmpp would set its own otherwise.
        self.ciphers = None
        self.ca_certs = None
        self.enable_direct_tls = options.direct_tls
        self.enable_starttls = not options.direct_tls
        self.enable_plaintext = False
        self.started = asyncio.get_running_loop().create_future()
        self.received = 0
        for plugin in ("xep_0030", "xep_0045", "xep_0199", "xep_0092"):
            self.register_plugin(plugin)
        self.add_event_handler("session_start", self.on_start)
        self.add_event_handler("message", self.on_message)
        self.add_event_handler("failed_all_auth", lambda _: self.started.set_exception(RuntimeError("login refused")))

    async def on_start(self, _event):
        self.send_presence()
        await self.get_roster()
        if not self.started.done():
            self.started.set_result(None)

    def on_message(self, stanza):
        if stanza["body"]:
            self.received += 1


async def main(options) -> None:
    rng = random.Random(options.seed)
    people = []
    for user in options.user:
        name, password = user.split(":")
        context = transport_security.client_context(options.authority, options.tls, rng)
        person = Person(f"{name}@{options.hostname}/{rng.choice(['phone', 'desk', 'web'])}{rng.randrange(1000)}", password, context, options)
        person.connect(options.address, options.port)
        await asyncio.wait_for(person.started, 20)
        people.append(person)
        await asyncio.sleep(rng.uniform(0, 0.4))
    room = f"room{rng.getrandbits(24):06x}@rooms.{options.hostname}"
    if options.mode == "room":
        for person in people:
            await person.plugin["xep_0045"].join_muc_wait(room, person.boundjid.user, timeout=20, maxstanzas=0)
    end = asyncio.get_running_loop().time() + options.seconds
    sent = 0
    while sent == 0 or asyncio.get_running_loop().time() < end:
        person = rng.choice(people)
        if options.mode == "room":
            person.send_message(mto=room, mbody=conversation.message(rng), mtype="groupchat")
        else:
            other = rng.choice([other for other in people if other is not person])
            person.send_message(mto=other.boundjid.full, mbody=conversation.message(rng), mtype="chat")
        sent += 1
        await asyncio.sleep(conversation.pause(rng))
    await asyncio.sleep(0.5)
    for person in people:
        await asyncio.wait_for(person.disconnect(wait=2), 5)
    received = sum(person.received for person in people)
    if received == 0:
        raise RuntimeError(f"{sent} messages sent, none received")
    print(f"{sent} sent, {received} received")


parser = transport_security.arguments(__doc__)
parser.add_argument("--user", action="append", required=True, help="NAME:PASSWORD, once per person")
parser.add_argument("--mode", choices=["room", "direct"], default="room")
parser.add_argument("--direct-tls", action="store_true")
if __name__ == "__main__":
    sys.exit(asyncio.run(main(parser.parse_args())))
