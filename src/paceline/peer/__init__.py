"""One peer: wired by `compose`, at work in `worker` (read this first), paced by `pacer`.

The rest is what these hand off: `learner` (the learning side), `shelf` (checkpoints), `catch_up` (fetching
what is missing), `directory` and `observer` (looking at a swarm), `settings` (YAML), `swarm` (local peers).
"""
