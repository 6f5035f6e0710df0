"""What a row of checks says of an endpoint. No I/O."""

from __future__ import annotations


class Health:
    """Good until checks say otherwise. The very first check decides alone: an endpoint that was
    never seen alive gets no `unhealthy_after` requests' worth of trust.
    """

    __slots__ = ("_healthy_after", "_known", "_streak", "_unhealthy_after", "good")

    def __init__(self, unhealthy_after: int, healthy_after: int) -> None:
        self._unhealthy_after = unhealthy_after
        self._healthy_after = healthy_after
        self._known = False
        self._streak = 0
        """Checks in a row that contradict `good`."""
        self.good = True

    def checked(self, passed: bool) -> bool:
        """Takes up one check; whether it changed `good`."""
        first, self._known = not self._known, True
        if passed == self.good:
            self._streak = 0
            return False
        self._streak += 1
        if not first and self._streak < (self._healthy_after if passed else self._unhealthy_after):
            return False
        self._streak = 0
        self.good = passed
        return True
