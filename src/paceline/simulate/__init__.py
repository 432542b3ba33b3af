"""Bad days for the round protocol: its real state machines over a virtual clock, network and disk.

Everything follows from a seed, so a day that breaks a promise can be lived through again, step by step.
"""
