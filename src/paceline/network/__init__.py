"""Everything that touches other machines, and the only floor that imports hivemind.

Hivemind brings the DHT, the libp2p daemon and the averager's process; what it takes to rely on them among
strangers is added here:

- `hardening`: every correction to hivemind itself, with its reason;
- `dht`: the DHT's process, safe to use from many threads, gone when its parent is gone;
- `butterfly`: what an all-reduce computes, and the vocabulary around it;
- `line`, `reducer`, `exchange`, `attempt`, `reception`: how it travels, one file per role;
- `averager`: the process in which all that runs, and its surface: `Averager.reduce`;
- `identity`, `board`: a peer's key, and the signed records on the DHT;
- `library`, `donor`, `fetcher`, `transfer`: state and history for whoever joins.

Usage, in the main thread and before any other fork or CUDA call (the children are forked):

    with PeerDht(...) as dht, Averager(dht, ...) as averager:
        averager.buffer[:] = values
        outcome = averager.reduce(order)
"""
