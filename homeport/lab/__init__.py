"""Sites on this machine, the demo's guest and its journey."""
