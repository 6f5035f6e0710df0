"""Logic of the layers that needs no event loop and no I/O; time is passed in as `now`."""
