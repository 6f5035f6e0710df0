"""HTTP caching as the RFCs say it (9110, 9111, 5861): pure functions of headers and times."""
