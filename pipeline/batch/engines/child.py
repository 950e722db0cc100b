"""The process that screens slides one by one; `pipeline.batch.engines.supervised` is outside.

It gets pickles on its standard input: first who is to make its worker, then for each slide a number
and what that is asked with, its path mostly, or None for what is in force. It answers by pickles on
what was its standard output, each with the number of its question; whatever libraries print goes to
standard error. It ends with its input.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import traceback

from pipeline.children import end_with_parent


def main() -> None:
    """Answers until nobody asks any more."""
    end_with_parent()
    faulthandler.enable()  # what it was at when it died goes into the log
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:  # for a library that reads its standard input
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    number = 0

    def send(kind: str, content: object) -> None:
        answers.write(pickle.dumps((number, kind, content), pickle.HIGHEST_PROTOCOL))
        answers.flush()

    maker = pickle.load(questions)
    worker = maker.worker(lambda *news: send("tiles", news))
    while True:
        try:
            number, asked = pickle.load(questions)
        except EOFError:
            return
        send("begun", None)  # from here on it's the slide's fault
        try:
            answer = worker.describe() if asked is None else worker.screen(asked)
        except BaseException as error:
            send("failed", portable(error))
        else:
            send("done", answer)


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


if __name__ == "__main__":
    main()
