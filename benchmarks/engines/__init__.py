"""Search engines on the sets of the board: m3gal and others, started on loopback in a temporary folder."""
