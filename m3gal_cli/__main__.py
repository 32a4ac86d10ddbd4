"""Run the command line as ``python -m m3gal_cli``, e.g. from torchrun."""

from m3gal_cli.cli.app import main

if __name__ == "__main__":
    main()
