"""The command line: the only room with option names, Rich and exit codes."""
