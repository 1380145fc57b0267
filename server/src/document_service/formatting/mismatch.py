"""The two ways in which a value cannot be printed as the type that a binding declares."""

from __future__ import annotations


class ValueMismatch(ValueError):
    """The value is not of the declared type; carries the type's name and never the value."""

    def __init__(self, expected: str) -> None:
        super().__init__(f"the value is not a {expected}")
        self.expected = expected


class ValueAbsent(ValueError):
    """The element is there but holds nothing to print, such as a Quantity without a value."""
