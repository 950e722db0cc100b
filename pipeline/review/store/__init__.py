"""Decisions of readers, kept beside the reports: append-only, blind, never lost.

See `store.ReviewStore`; what a reading is stands in `readings`, who may do what in `rules`.
"""

from pipeline.review.store.changes import (
    LONGEST_COMMENT,
    LONGEST_NAME,
    LONGEST_NOTE,
    CellChange,
    Change,
    RedoChange,
    RegionChange,
    SaidChange,
    SignChange,
    SlideChange,
    UndoChange,
    parse_change,
)
from pipeline.review.store.consensus import CONSENSUS
from pipeline.review.store.database import FILE
from pipeline.review.store.differences import Difference, View
from pipeline.review.store.errors import ChangeError, ReviewError, StaleError, StoreError
from pipeline.review.store.folding import Entry
from pipeline.review.store.readings import (
    REJECTED,
    UNSURE,
    Box,
    CellDecision,
    Reader,
    Reading,
    RegionMark,
    Round,
    Said,
    SlideDecision,
    SlideKey,
    Verdict,
    cell_key,
)
from pipeline.review.store.states import Head, SlideState
from pipeline.review.store.store import ReviewStore
from pipeline.review.store.tasks import Task, TaskField

__all__ = [
    "CONSENSUS",
    "FILE",
    "LONGEST_COMMENT",
    "LONGEST_NAME",
    "LONGEST_NOTE",
    "REJECTED",
    "UNSURE",
    "Box",
    "CellChange",
    "CellDecision",
    "Change",
    "ChangeError",
    "Difference",
    "Entry",
    "Head",
    "Reader",
    "Reading",
    "RedoChange",
    "RegionChange",
    "RegionMark",
    "ReviewError",
    "ReviewStore",
    "Round",
    "Said",
    "SaidChange",
    "SignChange",
    "SlideChange",
    "SlideDecision",
    "SlideKey",
    "SlideState",
    "StaleError",
    "StoreError",
    "Task",
    "TaskField",
    "UndoChange",
    "Verdict",
    "View",
    "cell_key",
    "parse_change",
]
