"""The offline client of the document service."""

__version__ = "0.1.0"
