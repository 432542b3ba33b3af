"""The swarm on a page: HTTP port, dashboard, exporter and report. It only reads."""
