"""Starts, watches and stops the whole stack: as containers, or as plain processes where there is no Docker.

Only the standard library is used: on a host with nothing but Docker, `make up` needs no virtual environment.
"""
