"""What people and programs talk to: the API and the command line."""
