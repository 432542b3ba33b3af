"""A watch over a swarm from outside: what is known of its peers and rounds, kept for whoever shows it.

picture.py   what there is to see, at one moment: the one format that page, terminal and report read
"""
