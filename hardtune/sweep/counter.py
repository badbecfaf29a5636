"""A number that a worker writes and the driver reads; in a file that imports nothing, so that it starts at once."""


class Counter:
    """How much of a task is done."""

    def __init__(self) -> None:
        self._done = 0

    def write(self, done: int) -> None:
        """Replace the number."""
        self._done = done

    def read(self) -> int:
        """What was written last."""
        return self._done
