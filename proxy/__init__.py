"""The road: socket, route, chain, upstream, socket. It never imports `middleware`."""

__version__ = "0.1.0"
