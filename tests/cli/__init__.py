"""Claims about the command line, settings and the local swarm."""
