"""``python -m scripts.reference`` writes the reference pages anew; ``make docs`` calls it.

With ``--check`` it writes nothing, and ends with 1 where one is out of date.
"""

import sys

from scripts.reference.pages import stale_pages, write_pages

if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        stale = stale_pages()
        for page in stale:
            print(f"{page}: out of date; run make docs", file=sys.stderr)
        sys.exit(bool(stale))
    write_pages()
