"""A BOSS on this machine: an HTTP server, a data folder, and the commands that fill it."""
