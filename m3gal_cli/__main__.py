"""``python -m m3gal_cli`` is ``m3gal`` (what torchrun starts)."""

from m3gal_cli.cli.app import main

if __name__ == "__main__":
    main()
