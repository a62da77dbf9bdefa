"""Bytes too large for the job bus: content-addressed, resumable, on sockets of their own."""
