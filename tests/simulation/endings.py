"""How a process, or a seed, ends before its time."""


class Crash(BaseException):
    """The process dies here; nothing that it would have done afterwards happens."""


class Broken(AssertionError):
    """A promise of the contract does not hold."""
