"""People who chat over IRC with TLS: each has a connection, all join one channel, some write privately as well."""

import asyncio
import functools
import random
import sys

import irc.client_aio
import irc.connection

import conversation
import transport_security


async def main(options) -> None:
    rng = random.Random(options.seed)
    reactor = irc.client_aio.AioReactor(loop=asyncio.get_running_loop())
    names = conversation.names(rng, options.people)
    channel = f"#{rng.choice(conversation.WORDS)}{rng.randrange(10_000)}"
    joined = {name: asyncio.get_running_loop().create_future() for name in names}
    received = 0

    def on_welcome(connection, _event):
        connection.join(channel)

    def on_join(connection, event):
        name = event.source.nick
        if name == connection.get_nickname() and not joined[name].done():
            joined[name].set_result(None)

    def on_message(_connection, _event):
        nonlocal received
        received += 1

    reactor.add_global_handler("welcome", on_welcome)
    reactor.add_global_handler("join", on_join)
    reactor.add_global_handler("pubmsg", on_message)
    reactor.add_global_handler("privmsg", on_message)
    people = []
    for name in names:
        context = transport_security.client_context(options.authority, options.tls, rng)
        connect = functools.partial(irc.connection.AioFactory, ssl=context, server_hostname=options.hostname)()
        person = reactor.server()
        await person.connect(options.address, options.port, name, username=name, ircname=name.title(), connect_factory=connect)
        people.append(person)
        await asyncio.wait_for(joined[name], 20)
        await asyncio.sleep(rng.uniform(0, 0.4))
    end = asyncio.get_running_loop().time() + options.seconds
    sent = 0
    while sent == 0 or asyncio.get_running_loop().time() < end:
        index = rng.randrange(len(people))
        # An IRC line holds 512 bytes with its command.
        text = conversation.message(rng)[:380]
        if rng.random() < 0.2:
            people[index].privmsg(rng.choice([name for name in names if name != names[index]]), text)
        else:
            people[index].privmsg(channel, text)
        sent += 1
        await asyncio.sleep(conversation.pause(rng))
    await asyncio.sleep(0.5)
    for person in people:
        person.quit(conversation.message(rng)[:60])
    await asyncio.sleep(0.4)
    if received == 0:
        raise RuntimeError(f"{sent} messages sent, none received")
    print(f"{sent} sent, {received} received")


parser = transport_security.arguments(__doc__)
parser.add_argument("--people", type=int, default=2)
if __name__ == "__main__":
    sys.exit(asyncio.run(main(parser.parse_args())))
