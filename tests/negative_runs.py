"""Options of `phd shards negatives`, as the command line would give them."""

from argparse import Namespace


def options(root, out, **settings):
    given = {
        "count": 8,
        "seed": 0,
        "categories": None,
        "model": None,
        "verify": None,
        "threshold": 0.3,
        "samples_per_shard": None,
        "max_samples": None,
        "resume": False,
    }
    return Namespace(root=root, out=out, **{**given, **settings})
