"""The format of the file: its syntax with positions, its parts, its schema, its mistakes in words.

`proxy.config` is what a file says, `proxy.loader` reads one; both use what is here.
"""
