"""Volumes in files and in buckets, read in place; a volume in BOSS is `nd_synapse.boss.resource`."""
