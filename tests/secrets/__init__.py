"""Secrets show nowhere: every command and call, in success and failure, at every log level, with a marked token."""
