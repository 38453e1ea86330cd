"""The portal: pages that show what the command line shows, and change nothing."""
