"""The engine under detection and multicore: grid, tiles, pool, worker, store."""
