"""What people call the categories of the Bethesda System, and nothing that is only spelled alike.

The synonyms are those of the Bethesda System for Reporting Cervical Cytology, 3rd edition (Nayar
and Wilbur, 2015), and of the older terms that it names beside them: CIN (Richart) and dysplasia
(WHO). A name stands for a category only if all of its parts do: ``HSIL (CIN2)`` does; ``LSIL/HSIL``
and ``HSIL?`` don't, since a wrong grade is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_SYNONYMS = {
    "NILM": (
        "nilm",
        "normal",
        "negative",
        "negative for intraepithelial lesion or malignancy",
        "negative for intraepithelial malignancy",
    ),
    "ASC-US": ("asc us", "ascus", "atypical squamous cells of undetermined significance"),
    "LSIL": (
        *("lsil", "lgsil", "lg sil", "low grade squamous intraepithelial lesion"),
        *("cin1", "cin 1", "cin i", "mild dysplasia"),
    ),
    "ASC-H": (
        *("asc h", "asch", "atypical squamous cells cannot exclude hsil"),
        "atypical squamous cells cannot exclude high grade squamous intraepithelial lesion",
    ),
    "AGC": ("agc", "atypical glandular cells"),
    "HSIL": (
        *("hsil", "hgsil", "hg sil", "high grade squamous intraepithelial lesion"),
        *("cin2", "cin 2", "cin ii", "cin3", "cin 3", "cin iii"),
        *("moderate dysplasia", "severe dysplasia", "squamous carcinoma in situ"),
    ),
    "AIS": ("ais", "adenocarcinoma in situ", "endocervical adenocarcinoma in situ"),
    "SCC": ("scc", "squamous cell carcinoma"),
    "adenocarcinoma": ("adenocarcinoma", "endocervical adenocarcinoma"),
}

_PARTS = re.compile(r"[()\[\]{},;:/|=]+")
_SIGNS = re.compile(r"[\s_.-]+")


def find_meaning(name: str) -> str | None:
    """The category that a name stands for by its meaning; None where there may be a doubt."""
    if whole := _BY_SYNONYM.get(_plain(_PARTS.sub(" ", name))):
        return whole
    parts = [_plain(part) for part in _PARTS.split(name)]
    meanings = {_BY_SYNONYM.get(part) for part in parts if part}
    return meanings.pop() if len(meanings) == 1 else None


def _plain(name: str) -> str:
    return _SIGNS.sub(" ", name).strip().casefold()


def propose(names: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """For each name that means the category of exactly one class, that class."""
    found = {}
    for name in names:
        meaning = find_meaning(name)
        alike = [one for one in classes if meaning and find_meaning(one) == meaning]
        if len(alike) == 1:
            found[name] = alike[0]
    return found


_BY_SYNONYM = {synonym: name for name, synonyms in _SYNONYMS.items() for synonym in synonyms}
