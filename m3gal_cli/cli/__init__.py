"""The command line: one module per command, with options, consoles and exit codes."""
