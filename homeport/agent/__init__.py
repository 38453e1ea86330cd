"""The process beside the disks: the one that touches libvirt, images and the cache store."""
