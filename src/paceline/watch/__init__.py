"""A watch over a swarm from outside: what is known of its peers and rounds, kept for whoever shows it.

picture.py   what there is to see, at one moment: the one format that page, terminal and report read
source.py    where pictures come from
notice.py    what is wrong with the swarm as a whole, in one sentence
watcher.py   a live swarm, seen by a peer that never trains
replay.py    a finished run, from a folder, a log or a history file
fold.py      records and events in, pictures out: pure
history.py   what was seen, kept in one SQLite file (store.py) that survives the monitor
proof.py     asking a peer to prove that it serves the address that it announces
"""
