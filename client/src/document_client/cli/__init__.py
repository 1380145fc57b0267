"""The command line ``documents``: what a clinic's staff types. Everything it does is in the Python API too."""
