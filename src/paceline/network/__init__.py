"""Everything that touches other machines, and the only floor that imports hivemind.

Hivemind brings the DHT, the libp2p daemon and the averager's process; what it takes to rely on them among
strangers is added here:

- `hardening`: every correction to hivemind itself, with its reason;
- `dht`: the DHT's process, safe to use from many threads, gone when its parent is gone;
- `butterfly`: what an all-reduce computes, and the vocabulary around it;
- `line`, `group`, `reducer`, `exchange`, `attempt`, `reception`: how it travels, one file per role;
- `averager`, `mailbox`, `cancelling`: the process in which all that runs, how it is asked (`Averager.reduce`)
  and how it is stopped;
- `identity`: a peer's key file;
- `board`, `validator`: the signed records on the DHT, and what is accepted as one;
- `transfer`: state and history for whoever joins.

Usage, in the main thread and before any other fork or CUDA call (the children are forked):

    how = Arithmetic(codec, aggregate)
    with PeerDht(seeds) as dht, Averager(dht, num_elements=n, arithmetic=how, prefix="run") as averager:
        averager.buffer[:] = values
        outcome = averager.reduce(order)
"""
