"""What people see: pure functions from a report to something rich can print. No I/O, no clock."""
