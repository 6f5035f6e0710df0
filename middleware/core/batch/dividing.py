"""What becomes of a batch that failed: it is sent anew in parts, until who is to blame is alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .queue import Batch, Group, Job, by_tag
from .sizes import Sizes
from .trial import Division, Suspects, Trial, halves


class Dividing:
    """splits: divisions of a failed batch and its parts. alone: makes a job the only one of a
    batch, and takes it out of wherever else it is.
    """

    def __init__(
        self,
        splits: int,
        sizes: Sizes,
        suspects: Suspects,
        alone: Callable[[Job, Batch | None], Batch],
    ) -> None:
        self.divided = 0
        """Batches ever divided."""
        self.parts: deque[Batch] = deque()
        """That have not gone yet."""
        self._part_went = False
        self._splits = splits
        self._sizes = sizes
        self._suspects = suspects
        self._alone = alone

    @property
    def go_first(self) -> bool:
        """A part goes next, whoever else waits."""
        return bool(self.parts) and not self._part_went

    def next(self, group: Group | None) -> Batch | None:
        """The part that goes now; None where there is none, or it is another tenant's turn. group:
        the first of those that wait. Between two parts another tenant's batch goes, since one that
        asks for what is bad again and again would keep others waiting.
        """
        if not self.parts or (group is not None and self._yields(group)):
            self._part_went = False
            return None
        self._part_went = True
        return self.parts.popleft()

    def _yields(self, group: Group) -> bool:
        tenant = min(group.waiting, key=by_tag).job.tenant
        return all(job.tenant != tenant for job in self.parts[0].jobs)

    def divide(self, batch: Batch, status: int) -> bool:
        """Makes two parts of a batch that failed; False where that is not worth it, and all get
        what the batch got.
        """
        trial = batch.trial = batch.trial or Trial(self._splits)
        trial.failed += status >= 500
        if not batch.jobs or batch.alone or not trial.splits or trial.hopeless:
            return False
        if len(batch.jobs) == 1:
            (job,) = batch.jobs
            if not job.whole:
                return False
            trial.splits -= 1
            part = self._alone(job, None)  # what was refused is not quite what it asked
            part.trial = trial
            self.parts.append(part)
            return True
        trial.splits -= 1
        self.divided += 1
        parts = halves(batch)
        # Only a refusal tells of a batch's size: a 500 may have passed meanwhile.
        division = Division(max(part.sent for part in parts)) if status < 500 else None
        for job in batch.jobs:
            job.batches.pop(batch, None)
        for part in parts:
            part.trial, part.division = trial, division
            if part.alone is not None:
                self._alone(part.alone, part)
            else:
                for job in part.jobs:
                    job.batches[part] = None
            self.parts.append(part)
        batch.jobs.clear()
        return True

    def given_up(self, batch: Batch) -> list[Batch]:
        """The parts, not sent yet and never to be, that share the fate of this one, because the
        server fails whatever it is sent.
        """
        trial = batch.trial
        if trial is None or not trial.hopeless:
            return []
        parts = [part for part in self.parts if part.trial is trial]
        for part in parts:
            self.parts.remove(part)
        return parts

    def went_well(self, batch: Batch, now: float) -> None:
        """The server has answered it well."""
        if batch.trial is not None:
            batch.trial.ok = True
        division = batch.division
        if division is not None:
            division.left -= 1
            if not division.left:  # both halves were well: it was their number
                self._sizes.learn(batch.group, division.larger, now)
        if batch.alone is not None and self._suspects:
            for item in batch.alone.items:
                self._suspects.clear(batch.group, item)
