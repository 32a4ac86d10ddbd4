"""Run the command line as ``python -m m3gal_cli``, e.g. from torchrun."""

import os
import sys

from m3gal_cli.cli.app import main


def run() -> None:
    """Run ``m3gal``; a process of torchrun ends without the interpreter's shutdown.

    The first process works on alone after the training. Threads of torch.distributed can abort the others at their
    shutdown ("terminate called without an active exception"), and torchrun would then stop the first process, too.
    """
    try:
        main()
    except SystemExit as end:
        if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not isinstance(end.code, int | None):
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code or 0)


if __name__ == "__main__":
    run()
