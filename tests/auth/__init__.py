"""`auth`: who may ask, for what, and as whom."""
