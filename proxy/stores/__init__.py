"""Stores that replicas and workers share. Each client is imported only where a file names it."""
