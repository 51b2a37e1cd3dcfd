"""A record's terminal repeats: its end is its beginning again, or its reverse complement.

Direct ones are what a circular genome leaves where an assembler went round it, and what many phages
pack; inverted ones are the ends of many linear viruses.
"""

from __future__ import annotations

from os.path import commonprefix

from virnuc_dask.sequences.bases import BASES, reverse_complement

DIRECT, INVERTED = "direct_repeat", "inverted_repeat"

_SHORTEST_NT, _LONGEST_NT = 20, 1000
_WORD = 3
_FEWEST_WORDS = 10  # a microsatellite has as many as its unit is long; 20 random bases have 16


def terminal_repeat(dna: str) -> str | None:
    """`DIRECT` or `INVERTED`, the first of them that the ends of ``dna`` have; None for neither.

    A repeat is exact and has at least 20 nt, of A, C, G and T alone. It is not made of few words,
    nor of a unit twice and more: that tells nothing of ends. No more than half of ``dna``, and
    1,000 nt of each end, are looked at.
    """
    reach = min(_LONGEST_NT, len(dna) // 2)
    if reach < _SHORTEST_NT:
        return None
    first, last = dna[:reach].upper(), dna[-reach:].upper()
    if _is_telling(_shared(first, last)):
        return DIRECT
    alike = commonprefix([first, reverse_complement(last)])  # noqa: RUF071  # letters are meant
    return INVERTED if _is_telling(alike) else None


def _shared(first: str, last: str) -> str:
    """The longest beginning of ``first`` that ends ``last``; shorter than the least is none."""
    seed = first[:_SHORTEST_NT]
    place = last.find(seed)
    while place >= 0:
        if first.startswith(last[place:]):
            return last[place:]
        place = last.find(seed, place + 1)
    return ""


def _is_telling(repeat: str) -> bool:
    """Whether a repeat is long enough, known to its last letter, and no repeat of a short unit."""
    if len(repeat) < _SHORTEST_NT or repeat.strip(BASES):
        return False
    words = {repeat[place : place + _WORD] for place in range(len(repeat) - _WORD + 1)}
    if len(words) < _FEWEST_WORDS:
        return False
    half = len(repeat) // 2
    return not any(repeat.startswith(repeat[unit:]) for unit in range(1, half + 1))
