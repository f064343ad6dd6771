"""`driver.py` the whole way, from BOSS to S3, against a local BOSS and an S3 server."""
