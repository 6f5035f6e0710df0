"""Fields that name one request, of it and of its answer."""

from __future__ import annotations

TRACE = frozenset(
    (b"x-request-id", b"x-correlation-id", b"request-id", b"traceparent", b"tracestate", b"baggage",
     b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid", b"x-b3-sampled", b"x-b3-flags",
     b"x-amzn-trace-id", b"x-cloud-trace-context", b"sentry-trace", b"uber-trace-id",
     b"x-client-request-id", b"x-ms-client-request-id", b"elastic-apm-traceparent", b"newrelic",
     b"x-datadog-trace-id", b"x-datadog-parent-id", b"x-datadog-sampling-priority",
     b"x-datadog-origin", b"x-datadog-tags", b"cf-ray")
)  # fmt: skip
"""In lower case. A call for several requests carries those of the first."""
