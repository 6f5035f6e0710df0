"""Hostile and odd bytes, from clients and from upstreams, over real sockets."""

import pytest

pytest.register_assert_rewrite("tests.hostile.harness", "tests.hostile.wire")
