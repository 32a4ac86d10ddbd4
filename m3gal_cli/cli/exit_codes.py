"""Exit codes. 0: done."""

CHECK_FAILED, USAGE, INTERRUPTED = 1, 2, 130
