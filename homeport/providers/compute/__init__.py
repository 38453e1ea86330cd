"""Hypervisors: libvirt, and a twin in memory."""
