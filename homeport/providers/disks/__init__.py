"""Disks that are not plain files of ours: read and written through QEMU."""
