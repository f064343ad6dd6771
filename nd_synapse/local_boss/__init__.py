"""A BOSS on this machine: an HTTP server, a data folder, and the commands that fill it.

It is not a client of BOSS; the job reaches this server as it reaches any other, over HTTP.
"""
