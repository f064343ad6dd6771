"""Any function on the blocks of a box."""
