"""Adapters to outside systems, each with its in-memory twin."""
