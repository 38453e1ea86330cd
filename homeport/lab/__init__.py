"""Sites on this machine: hosts in namespaces, the guest they run and what it proves."""
