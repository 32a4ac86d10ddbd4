"""Option names of the published code and of earlier versions of m3gal, and the plain names that replace them."""

from __future__ import annotations

from itertools import takewhile

# Published name -> plain name. Published options with the name of a plain one (--lr, --epochs, …) need no entry.
PLAIN_NAME_OF = {
    "--gc-lr": "--lr-location",
    "--moco-k": "--queue-size",
    "--moco-t": "--temperature",
    "--moco-m": "--momentum-text",
    "--moco-gc-m": "--momentum-location",
    "--m-inc": "--momentum-increment",
    "--print-freq": "--log-every",
    "--output-name": "--run-name",
    "--poi-database-filepath": "--pois",
    "--test-dataset-filepath": "--test",
}
# Published switches that m3gal accepts and ignores.
SWITCHES_WITHOUT_EFFECT = ("--bert-from-local", "--load-model", "--compute-ranks")
# Published options that the evaluations accept and ignore, as they have no queue.
IGNORED_IF_ABSENT = ("--moco-k",)
# Name in earlier versions of m3gal -> name of today. Help does not show them.
EARLIER_NAMES = {"--members": "--soup-size", "--hybrid": "--rerank", "--bm25": "--sparse"}


def normalise_spelling(args: list[str]) -> list[str]:
    """Replace the published spellings in a command line by those that the parser knows.

    ``--batch_size=8`` becomes ``--batch-size=8``, the command ``eval_retrieval`` becomes ``eval-retrieval``, and
    ``--schedule 40 80`` becomes ``--schedule 40 --schedule 80``. Values, and arguments after ``--``, do not change.
    """
    out, rest = list[str](), list(args)
    while rest:
        arg = rest.pop(0)
        if arg == "--":
            return [*out, arg, *rest]
        if arg.startswith("--"):
            name, equals, value = arg.partition("=")
            arg = name.replace("_", "-") + equals + value
        elif not out:
            arg = arg.replace("_", "-")
        out.append(arg)
        if arg == "--schedule":
            numbers = list(takewhile(lambda value: value.lstrip("-").isdigit(), rest))
            del rest[: len(numbers)]
            out += [word for number in numbers for word in (number, arg)][:-1]
    return out
