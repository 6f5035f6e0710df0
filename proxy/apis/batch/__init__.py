"""Requests and answers taken apart into items, and put together: one file for each form.

`proxy.apis.items` says what is promised. A piece of a body is the bytes that were there:
digits, escapes and white space inside an item pass as they are. Only between the numbers of a
tensor white space is left out.
"""
