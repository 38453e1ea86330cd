"""Homeport's own HTTP API, and the agents' side of it."""
