"""``cytolibra calibrate``: which slides are suspicious, learned from slides with known outcome."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from configs import ConfigError
from scripts.given import refuse_given
from scripts.telling import warn

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.reports.rule_out import RuleOut
    from pipeline.reports.slide_rule import Share, SlideRule


_OF_FIT = frozenset({"sensitivity", "folds", "seed"})
"""Options of fitting a rule alone."""


def calibrate(
    context: typer.Context,
    reports: Annotated[
        Path, typer.Argument(metavar="REPORTS", help="Folder that cytolibra screen wrote.")
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Columns slide, label and, if it may be, patient. A label is a category of the "
            "Bethesda System, or positive or negative.",
        ),
    ] = None,
    negatives: Annotated[
        bool,
        typer.Option(
            "--negatives",
            help="All slides are known to be normal: measure false alarms on them instead.",
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_PATH",
            help="With --negatives: the model that screened them, for how it confuses grades.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What is written. Default: slide_rule.json, or false_alarms.json.",
        ),
    ] = None,
    sensitivity: Annotated[
        float, typer.Option(help="Share of positive slides to be found.")
    ] = 0.95,
    positive: Annotated[
        str | None,
        typer.Option(metavar="CATEGORY", help="Least severe category that counts as positive."),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Of the cross-validation.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the folds, and of who is held out.")] = 0,
    rule_out: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Also find a score below which slides may be set aside: of abnormal patients "
            "(with --positive: of those with that or worse) at most this share would be. 0.01 "
            "needs 99 of them beside those of the fit.",
        ),
    ] = None,
    rule_out_confidence: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="With which that holds for the very patients at hand, such as 0.95 (0.01 needs "
            "299 of them then). Default: on average over such patients.",
        ),
    ] = None,
) -> None:
    """Fits the rule that tells which slides are suspicious, for a wanted sensitivity.

    Few features (counts and best scores of abnormal cells), weights that are never negative,
    figures by cross-validation. cytolibra screen --rule FILE uses it. With --rule-out some of the
    abnormal patients are held out from that fit, and a score is found below which few of them lie.

    With --negatives: how many false alarms the model raises a mm² on normal slides of your own;
    ten suffice for a start. cytolibra screen --negatives FILE suggests nothing that these explain.
    """
    if rule_out_confidence is not None and rule_out is None:
        raise ConfigError("--rule-out-confidence needs --rule-out, the share that it is about")
    if negatives:
        if rule_out is not None:
            raise ConfigError("--rule-out needs abnormal slides: it goes with --labels alone")
        refuse_given(context, _OF_FIT, "of the rule that --labels are for, not of --negatives")
        if positive is not None and labels is None:
            raise ConfigError("--positive says which of the --labels count: give these, too")
        _measure_negatives(reports, labels, positive, model, out or Path("false_alarms.json"))
        return
    refuse_given(context, {"model"}, "of --negatives")
    if labels is None:
        raise ConfigError("give --labels, the slides' outcomes; or --negatives for normal slides")
    wish = (rule_out, rule_out_confidence) if rule_out is not None else None
    place = out or Path("slide_rule.json")
    _fit_rule(reports, labels, positive, sensitivity, folds, seed, wish, place)


def _measure_negatives(
    reports: Path, labels: Path | None, positive: str | None, model: str | None, out: Path
) -> None:
    from models.card import find_model, read_card
    from scripts.evaluation.false_alarms import false_alarm_figures
    from scripts.evaluation.negatives import known_figures, read_negatives
    from scripts.evaluation.table import false_alarm_table

    _tell_others(reports)
    known, doubts = known_figures(reports, read_card(find_model(model)) if model else None)
    alarms, notes = read_negatives(reports, labels, positive, known)
    _write({out: alarms.model_dump_json(indent=2) + "\n"})
    for note in notes:
        typer.echo(note)
    Console().print(false_alarm_table(false_alarm_figures(alarms)))
    Console().print(f"{alarms.data}: {out}", soft_wrap=True)
    warn(doubts)


def _fit_rule(
    reports: Path,
    labels: Path,
    positive: str | None,
    sensitivity: float,
    folds: int,
    seed: int,
    wish: tuple[float, float | None] | None,
    out: Path,
) -> None:
    from pipeline.reports.slide_rule import name_positive
    from scripts.evaluation.set_aside import check_wish, fit_with_rule_out
    from scripts.evaluation.slide_level import fit_rule, intervals_of, read_labelled

    wanted = check_wish(*wish) if wish else None
    if not 0 < sensitivity <= 1:
        raise ConfigError(f"--sensitivity {sensitivity}: is a share above 0 and up to 1")
    _tell_others(reports)
    slides = read_labelled(reports, labels, positive)
    meaning = name_positive(positive)
    fitted = slides
    if wanted:
        rule, scores, fitted = fit_with_rule_out(slides, wanted, sensitivity, meaning, folds, seed)
    else:
        rule, scores = fit_rule(slides, sensitivity, meaning, folds, seed)
    picture = out.with_suffix(".svg")
    drawn = _draw(scores, fitted.positive, rule)
    _write({out: rule.model_dump_json(indent=2) + "\n", picture: drawn})
    for note in slides.notes:
        typer.echo(note)
    Console().print(_table(rule, intervals_of(fitted.groups)))
    Console().print(f"{out}; its ROC curve: {picture}", soft_wrap=True)


def _tell_others(reports: Path) -> None:
    from pipeline.batch.places import find_places

    warn(find_places(reports).doubts)


def _write(texts: Mapping[Path, str]) -> None:
    """Writes files.

    Raises:
        ConfigError: one can't be written.
    """
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--out {path}: can't be written: {error.strerror}") from error


def _table(rule: SlideRule, intervals: str) -> Table:
    title = f"{rule.slides} slides, {rule.positives} positive ({rule.positive})"
    table = Table(title=title, caption=f"by cross-validation, with 95% intervals {intervals}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, share in {
        "area under the ROC curve": rule.auc,
        f"sensitivity from {rule.threshold:.3f} on (wanted {rule.wanted:g})": rule.sensitivity,
        "specificity there": rule.specificity,
    }.items():
        table.add_row(name, _show(share))
    table.add_section()
    for name, weight in zip(rule.features, rule.weights, strict=True):
        table.add_row(f"weight of {name}", f"{weight:.3f}")
    if rule.rule_out:
        table.add_section()
        _add_rule_out(table, rule.rule_out, rule.positive)
    return table


def _add_rule_out(table: Table, rule_out: RuleOut, positive: str) -> None:
    from pipeline.reports.rule_out import patients_with

    table.add_row("set aside below a score of", f"{rule_out.threshold:.3f}")
    table.add_row(f"{patients_with(positive)} held out for that", str(rule_out.patients))
    table.add_row("of such patients, on average, at most", f"{rule_out.bound:.2%}")
    table.add_row("of such patients, with 95% confidence, at most", f"{rule_out.upper:.2%}")


def _show(share: Share) -> str:
    return f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f})"


def _draw(scores: NDArray[np.float64], positive: NDArray[np.bool_], rule: SlideRule) -> str:
    """The ROC curve of slides that were left out, with the chosen point."""
    import matplotlib as mpl
    import numpy as np
    from matplotlib.figure import Figure

    from scripts.evaluation.svg import ACCENT, LINE, STYLE, alone, to_svg

    cuts = np.concatenate([[np.inf], np.sort(np.unique(scores))[::-1]])
    called = scores >= cuts[:, None]
    true, false = called[:, positive].mean(axis=1), called[:, ~positive].mean(axis=1)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=LINE, linewidth=0.8)
        axes.step(false, true, where="post", color=ACCENT)
        axes.plot(1 - rule.specificity.value, rule.sensitivity.value, "o", color=ACCENT)
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1.02))
        axes.set_title(f"ROC of slides, area {_show(rule.auc)}")
        axes.grid()
        return alone(to_svg(figure, "ROC curve of slides that were left out"))
