"""The kinds of traffic, a module each: `KIND`, `serve(server, lab)` and `session(client, server, rng, lab)`."""
