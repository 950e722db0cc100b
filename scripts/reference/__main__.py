"""``python -m scripts.reference`` writes the reference pages anew; ``make docs`` calls it."""

from scripts.reference.pages import write_pages

if __name__ == "__main__":
    write_pages()
