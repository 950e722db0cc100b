"""Rules between the readers of a slide, so that a second reading is blind and stays so.

- Differences open when two readers or more have signed off and nobody who has begun still reads.
  Who began and then undid all of it does not count.
- A signature can be taken back until a second reader has signed off, too: from then on each could
  have seen what the other said.
- Who has looked at the differences of a slide, or adjudicated it, can't begin a reading of it.
- An adjudication is begun when differences are open, by one reader, and is signed off when none is
  left. Where a reading that is signed off later differs in anything else, its reader takes the
  signature back and goes on.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.review.store.changes import RedoChange, SignChange, UndoChange
from pipeline.review.store.differences import Difference, open_differences
from pipeline.review.store.errors import ChangeError
from pipeline.review.store.folding import Fold
from pipeline.review.store.readings import Reading
from pipeline.review.store.states import SlideState


def signs(fold: Fold, change: object) -> bool:
    """Whether a change would sign the reading off."""
    if isinstance(change, RedoChange):
        return bool(fold.undone) and _is_sign(fold.undone[-1].entry, True)
    return isinstance(change, SignChange) and change.signed


def unsigns(fold: Fold, change: object) -> bool:
    """Whether a change would take the signature back."""
    if isinstance(change, UndoChange):
        return bool(fold.done) and _is_sign(fold.done[-1].entry, True)
    if isinstance(change, RedoChange):
        return bool(fold.undone) and _is_sign(fold.undone[-1].entry, False)
    return isinstance(change, SignChange) and not change.signed


def may_begin(fold: Fold, state: SlideState, looked: bool = False) -> None:
    """Whether the reader may begin this round of this slide; who has begun may go on.

    Args:
        fold: of the reader in this round.
        state: of the slide.
        looked: whether he has looked at its differences without having read it.

    Raises:
        ChangeError: he may not.
    """
    if fold.done:
        return
    name = fold.slide.name
    adjudicators = [h.reader for h in state.heads if h.round == "adjudication" and h.begun]
    if fold.round == "reading":
        # What he has undone of an adjudication he has seen all the same.
        if looked or state.head(fold.reader, "adjudication"):
            has = "looked at its differences" if looked else "adjudicated it"
            raise ChangeError(
                f"{name}: {fold.reader.name} has {has} and knows what others said: a reading of "
                "his own would not be blind"
            )
        return
    if adjudicators and adjudicators != [fold.reader]:
        raise ChangeError(f"{name}: {adjudicators[0].name} adjudicates it")
    if len(state.signed) < 2:
        raise ChangeError(
            f"{name}: there is nothing to adjudicate: {len(state.signed)} of the two readings that "
            "it takes are signed off"
        )
    if state.begun:
        raise ChangeError(
            f"{name}: it can be adjudicated when all who read it have signed off; "
            f"{len(state.begun)} still read it"
        )


def may_unsign(fold: Fold, state: SlideState) -> None:
    """Whether a signature may be taken back.

    Raises:
        ChangeError: it may not.
    """
    if fold.round == "reading" and any(reader != fold.reader for reader in state.signed):
        raise ChangeError(
            f"{fold.slide.name}: a second reader has signed off, too, so that each may have seen "
            "what the other said: the signature stays; what is wrong is put right by adjudication"
        )


def may_adjudicate(differences: Sequence[Difference], adjudication: Reading) -> None:
    """Whether an adjudication may be signed off.

    Raises:
        ChangeError: differences are left.
    """
    left = open_differences(differences, adjudication)
    if left:
        first = (
            f"cell {left[0].key}" if left[0].subject == "cell" else f"its {_WORDS[left[0].subject]}"
        )
        raise ChangeError(
            f"{adjudication.slide.name}: {len(left)} of {len(differences)} differences are left "
            f"to decide, {first} first"
        )


_WORDS = {"slide": "category", "adequacy": "adequacy", "cell": "cell"}


def _is_sign(entry: object, signed: bool) -> bool:
    kind, body = getattr(entry, "kind", ""), getattr(entry, "body", {})
    return kind == "sign" and bool(body["signed"]) is signed
