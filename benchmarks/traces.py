"""What is asked for, one key after another: made, or as it was recorded."""

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, cycle, islice
from pathlib import Path

SEED = 42
EXPONENTS = (0.7, 0.9, 1.1)


def made(keys: int, reads: int) -> dict[str, Sequence[str]]:
    """The same each time; by what they are."""
    popular = {exponent: zipf(keys, reads, exponent) for exponent in EXPONENTS}
    usual = popular[0.9]
    third = reads // 3
    return {
        **{f"Zipf {exponent}": trace for exponent, trace in popular.items()},
        "Zipf 0.9, half of it a scan": list(islice(chain.from_iterable(zip(usual, _new("once"), strict=False)), reads)),
        "Zipf 0.9, scans of all keys": [*usual[:third], *_all(keys), *usual[third : 2 * third], *_all(keys)],
        "loop over a fifth of the keys": list(islice(cycle(_all(keys // 5)), reads)),
        "loop and Zipf 0.9": list(islice(chain.from_iterable(zip(usual, cycle(_all(keys // 5)), strict=False)), reads)),
        "Zipf 0.9, drifting": drifting(keys, reads),
    }


def zipf(keys: int, reads: int, exponent: float) -> list[str]:
    weights = list(accumulate((place + 1) ** -exponent for place in range(keys)))
    return random.Random(SEED).choices(_all(keys), cum_weights=weights, k=reads)


def drifting(keys: int, reads: int, exponent: float = 0.9) -> list[str]:
    """What is popular moves on: by the end it is what nobody asked for at first."""
    names = _all(keys)
    places = map(int, zipf(keys, reads, exponent))
    return [names[(place + number * keys // reads) % keys] for number, place in enumerate(places)]


def recorded(path: Path) -> list[str]:
    """One key per line, all of it; empty lines are nobody's."""
    return [line for line in path.read_text(errors="surrogateescape").splitlines() if line]


def _all(keys: int) -> list[str]:
    return [str(key) for key in range(keys)]


def _new(name: str) -> Iterator[str]:
    number = 0
    while True:
        yield f"{name} {number}"
        number += 1
