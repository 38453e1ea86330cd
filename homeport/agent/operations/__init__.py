"""What a server may ask of this host once: a handler for each kind in `model.operations`."""
