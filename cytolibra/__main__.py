"""``python -m cytolibra`` is the ``cytolibra`` command."""

from cytolibra import main

if __name__ == "__main__":
    main()
