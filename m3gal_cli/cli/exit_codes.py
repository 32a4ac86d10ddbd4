"""What the shell is told."""

CHECK_FAILED, USAGE, INTERRUPTED = 1, 2, 130  # 0: done
