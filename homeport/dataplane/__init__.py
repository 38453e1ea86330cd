"""Moves blocks: knows disks and images, not vaults, jobs or HTTP."""
