"""Programs of others that write and read the same formats, in an environment of their own (`make peers`)."""
