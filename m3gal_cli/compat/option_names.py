"""Published spellings of options, turned into ours before they are parsed."""

from __future__ import annotations


def normalise(args: list[str]) -> list[str]:
    """``--batch_size=8`` becomes ``--batch-size=8``; ``--schedule 40 80`` becomes two ``--schedule``; values stay.

    Commands may be written with an underscore too (``eval_retrieval``).
    """
    out: list[str] = []
    position = 0
    while position < len(args):
        arg = args[position]
        position += 1
        if arg == "--":
            return [*out, arg, *args[position:]]
        if arg.startswith("--"):
            name, equals, value = arg.partition("=")
            arg = name.replace("_", "-") + equals + value
        elif not out and "_" in arg:
            arg = arg.replace("_", "-")
        if arg == "--schedule":
            while position < len(args) and args[position].lstrip("-").isdigit():
                out += [arg, args[position]]
                position += 1
            if out[-2:-1] != [arg]:
                out.append(arg)
            continue
        out.append(arg)
    return out
