"""The process that screens slides one by one; `pipeline.batch.engines.supervised` is outside.

It gets pickles on its standard input: first who is to make its worker, then for each slide what
that is asked with, its path mostly, or None for what is in force. It answers by pickles on what was
its standard output; whatever libraries print goes to standard error. It ends with its input.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import traceback
from typing import BinaryIO

from pipeline.children import end_with_parent


def main() -> None:
    """Answers until nobody asks any more."""
    end_with_parent()
    faulthandler.enable()  # what it was at when it died goes into the log
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:  # for a library that reads its standard input
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    maker = pickle.load(questions)
    worker = maker.worker(lambda *news: _send(answers, "tiles", news))
    while True:
        try:
            asked = pickle.load(questions)
        except EOFError:
            return
        _send(answers, "begun", None)  # from here on it's the slide's fault
        try:
            answer = worker.describe() if asked is None else worker.screen(asked)
        except BaseException as error:
            _send(answers, "failed", portable(error))
        else:
            _send(answers, "done", answer)


def portable(error: BaseException) -> Exception:
    """An error that arrives as it is, with where it came from."""
    try:
        error.add_note("".join(traceback.format_exception(error)))
        error.__cause__ = error.__context__ = None
        copy = pickle.loads(pickle.dumps(error))
    except Exception:  # it takes other arguments than it keeps
        copy = None
    if type(copy) is type(error) and isinstance(copy, Exception):
        return copy
    return RuntimeError("".join(traceback.format_exception_only(error)).split("\n")[0])


def _send(answers: BinaryIO, kind: str, content: object) -> None:
    answers.write(pickle.dumps((kind, content), pickle.HIGHEST_PROTOCOL))
    answers.flush()


if __name__ == "__main__":
    main()
