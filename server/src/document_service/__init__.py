"""The clinical document service: templates, render jobs, sealed documents and an offline contract."""

__version__ = "0.1.0"
