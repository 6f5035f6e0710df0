"""`circuit_breaker`: an endpoint that fails or has become slow is left alone for a while."""

from .layer import CircuitBreaker as CircuitBreaker
