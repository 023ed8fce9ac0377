"""Command line: configuration, building a run from it, and the commands."""
