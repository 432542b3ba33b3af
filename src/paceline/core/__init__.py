"""The pure floor: what a round is, who leads it, what is signed, what is owed.

Nothing here touches a clock, a socket, a disk or a tensor. Time and chance arrive as arguments, which is
why the live swarm and a simulator can run the very same code.
"""
