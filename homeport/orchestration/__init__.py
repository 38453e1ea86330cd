"""Durable jobs: what the server does step by step, and the ports it needs for it."""
