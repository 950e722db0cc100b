"""Class tables of public sets, by name: from their names to those of Bethesda's squamous classes.

`docs/how-to/public-sets.md` says where each is found, under which licence, and why names lead
where they do. What has no squamous grade, such as glandular cells, organisms and
"abnormal" without a grade, is ignored: neither cell nor background.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data.annotations.classes import IGNORE

_ORGANISMS = ("trichomonas", "candida", "flora", "herps", "herpes", "actinomyces")

TABLES: Mapping[str, Mapping[str, str]] = {
    "cric": {name: name for name in ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC")},
    "riva": {
        "NILM": "NILM",
        "ENDO": "NILM",
        "INFL": IGNORE,
        "ASCUS": "ASC-US",
        "LSIL": "LSIL",
        "ASCH": "ASC-H",
        "HSIL": "HSIL",
        "SCC": "SCC",
    },
    "comparison-detector": {
        "ascus": "ASC-US",
        "lsil": "LSIL",
        "asch": "ASC-H",
        "hsil": "HSIL",
        "scc": "SCC",
        "agc": IGNORE,
        **dict.fromkeys(_ORGANISMS, IGNORE),
    },
    "sipakmed": {
        "Superficial-Intermediate": "NILM",
        "Parabasal": "NILM",
        "Metaplastic": "NILM",
        "Koilocytotic": "LSIL",
        "Dyskeratotic": IGNORE,
    },
    "apacc": {
        "healthy": "NILM",
        "unhealthy": IGNORE,
        "bothcells": IGNORE,
        "rubbish": IGNORE,
    },
    "hicervix": {
        **dict.fromkeys(("Normal", "ECC", "RPC", "MPC", "PG", "Atrophy", "EMC", "HCG"), "NILM"),
        **{name: name for name in ("ASC-US", "LSIL", "ASC-H", "HSIL", "SCC")},
        **dict.fromkeys(("AGC", "AGC-NOS", "AGC-FN", "AGC-ECC-NOS", "AGC-EMC-NOS"), IGNORE),
        **dict.fromkeys(("ADC", "ADC-ECC", "ADC-EMC"), IGNORE),
        **dict.fromkeys(("FUNGI", "ACTINO", "TRI", "HSV", "CC"), IGNORE),
    },
}
"""By the set's name: what its names stand for."""


def names_of_public(table: Mapping[str, str]) -> set[str]:
    """Names in a table that a public one has brought there, as all of it is there.

    A set, or a part of it, need not have all of them.
    """
    return {name for one in TABLES.values() if one.items() <= table.items() for name in one}


def class_table(value: Any) -> Any:
    """A table by its name; whatever else a setting says, as it is.

    Raises:
        ValueError: there is no table of this name.
    """
    if not isinstance(value, str):
        return value
    if value not in TABLES:
        raise ValueError(f"no table of classes is called {value}; there are {', '.join(TABLES)}")
    return dict(TABLES[value])
