"""Any function on the blocks of a BOSS volume."""
