"""``python -m scripts`` is the ``cytolibra`` command."""

from scripts.cli import main

main()
