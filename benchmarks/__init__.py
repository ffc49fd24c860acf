"""Requests a second against the other adapters, in one process and one run."""
