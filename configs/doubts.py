"""Doubts: what a person should know of an input that is odd, each with a stable code.

Whatever is ambiguous, contradictory, partial or implausible is settled by a rule and told as a
`Doubt`, or refused by an error that carries a code. This is the one list of these codes;
``docs/warnings.md`` is made of it by ``make docs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import field_validator

from configs.loading import StrictModel

PAGE = Path(__file__).parent.parent / "docs" / "warnings.md"


class Entry(NamedTuple):
    """What a code stands for.

    Attributes:
        means: what was seen, and by which rule it was settled.
        todo: what a person does about it.
    """

    means: str
    todo: str


class Doubt(StrictModel):
    """Something odd that was settled by a rule, and what was done.

    Attributes:
        code: a key of `WARNINGS`; stable, for programs.
        text: one sentence, for people.
    """

    code: str
    text: str

    @field_validator("code")
    @classmethod
    def _known(cls, code: str) -> str:
        if code not in WARNINGS:
            raise ValueError(f"unknown code of a warning: {code}")
        return code

    def __str__(self) -> str:
        return with_code(self.text, self.code)


def with_code(text: str, code: str) -> str:
    """A sentence with its code behind it, as it is shown to people; without one as it is."""
    return f"{text} [{code}]" if code else text


SLIDES: dict[str, Entry] = {
    "mpp-overruled": Entry(
        "The slide's own µm per pixel differs from what --mpp-override or the table says. The "
        "latter is used.",
        "Nothing, if you meant it. Else take the slide out of the table.",
    ),
    "mpp-argument-unused": Entry(
        "--mpp was given, but the slide states another, sane scale, which is used.",
        "If the slide's own scale is wrong, overrule it by --mpp-override or --mpp-table.",
    ),
    "mpp-absurd": Entry(
        "The slide states a scale that no microscope gives (outside of 0.05 to 5 µm per pixel). "
        "What the user gave is used.",
        "Check that the scale that you gave is this scanner's.",
    ),
    "mpp-coarse": Entry(
        "The slide is coarser than the model by more than 1.3 times: it is enlarged, and details "
        "that the model looks for are not in it. By more than 2 times it is refused.",
        "Scan with a stronger objective, or take a model for this scale.",
    ),
    "exif-turned": Entry(
        "EXIF says that the camera was held otherwise. The picture is turned as every viewer and "
        "annotation tool shows it, for screening and training alike.",
        "Nothing, if you see it like that too. Annotate it as it is shown.",
    ),
    "first-picture": Entry(
        "The file holds several pictures, such as an animation or a preview. The first is read.",
        "If another one is meant, save it as a file of its own.",
    ),
    "printing-inks": Entry(
        "The picture is stored in printing inks (CMYK). It is turned into RGB without a profile, "
        "so its colours are near to what the camera saw, no more.",
        "Export it as RGB from where it comes from.",
    ),
    "all-transparent": Entry(
        "All of the picture is transparent. Transparent is where nothing was scanned, so it is "
        "read as white.",
        "If a viewer shows cells, save it without transparency.",
    ),
    "grey": Entry(
        "The slide is grey; each value is taken for red, green and blue. The models learned from "
        "stained cells in colour, and what they find here was never judged.",
        "Scan it in colour.",
    ),
    "bit-depth": Entry(
        "More bits a sample are stored than the camera had, and the file does not say how many, "
        "or says otherwise than its pixels show. The smallest depth of a camera that holds the "
        "values is taken where glass comes near to its white.",
        "Compare the report's picture with the slide. If it is too bright or too dark, save the "
        "slide with 8 bits a sample.",
    ),
    "depth-unclear": Entry(
        "More than 8 bits a sample are stored, and by what the file says of them the slide is "
        "dark. It may have fewer bits than it seems; it is not brightened by a guess.",
        "If the report's picture is dark, save the slide with 8 bits a sample, or state the bits "
        "that are used (SignificantBits in OME-XML, MaxSampleValue in TIFF).",
    ),
    "channels-as-rgb": Entry(
        "The file does not say what its three channels are. They are read as red, green and blue, "
        "in their order.",
        "If the report's picture has other colours than the slide, export it as RGB.",
    ),
    "extra-sample": Entry(
        "Each pixel has a fourth sample, and the file does not say what it is. It is left out.",
        "If parts that were never scanned come out black, export the slide without it.",
    ),
    "orientation-unused": Entry(
        "The TIFF has a tag that wants it turned. Slides are read as they are stored, as slide "
        "viewers and their annotations have them.",
        "Nothing, unless it is a photo: save that turned for good.",
    ),
    "colour-misstated": Entry(
        "What the file says of how colours are stored (RGB or YCbCr) differs from what its JPEGs "
        "say of themselves, by their markers or coarser colours. The JPEGs are believed.",
        "Compare the report's picture with the slide. Tell whoever made the file.",
    ),
    "ending-differs": Entry(
        "The file is a plain image of another kind than its ending says, or ends in .svs and is a "
        "TIFF without Aperio's tags. It is read as what it is.",
        "Rename the file; of an .svs check where its tags were lost.",
    ),
    "areas-joined": Entry(
        "The file holds several specimen areas of one scale. They are screened as one slide: laid "
        "out as the file states their places, else in a row; the facts of the report say where "
        "each lies, in level-0 pixels of that slide.",
        "To look at a cell in the file's own image, subtract the place of its area.",
    ),
    "picture-left-out": Entry(
        "The file holds another image of an area's size that by its name or its scale is a label, "
        "a macro or an overview. It was not screened.",
        "If it is a specimen area, export it as a file of its own.",
    ),
    "focal-planes": Entry(
        "The file holds several focal planes. One is read, the best-focused where their pixels "
        "can be compared; cells that are in focus in another may be missed.",
        "Look through the planes where it matters, or scan with extended focus.",
    ),
    "unread-area": Entry(
        "Part of the slide could not be read, and was not screened; see area.unread.",
        "Copy the file again, or scan the slide again.",
    ),
    "nothing-screened": Entry(
        "No cells were seen on the overview: nothing was screened.",
        "Look at the slide. If it has cells, screen with --set foreground.enabled=false.",
    ),
    "uncoded": Entry(
        "A warning from a report that an earlier version wrote, which had no codes.",
        "Screen the slide again.",
    ),
}
"""Of slides, as they are opened and screened."""

BATCHES: dict[str, Entry] = {
    "files-not-read": Entry(
        "Files that look like slides, by their ending or their content, are of kinds that are not "
        "read. Each is named with what would read it.",
        "Export them as a format that is read (see the README), or move them away.",
    ),
    "images-left-out": Entry(
        "Plain images in folders carry no scale, and were left out.",
        "Give their scale with --mpp or --mpp-table if they are slides.",
    ),
    "runtime-fallback": Entry(
        "The runtime or precision that would be taken first can't be had on this machine; the "
        "next best one runs.",
        "Nothing, but for speed. `cytolibra doctor` tells what this machine can run.",
    ),
}
"""Of a batch as a whole."""

ANNOTATIONS: dict[str, Entry] = {}
"""Of annotations, as they are read."""

WARNINGS: Mapping[str, Entry] = {**SLIDES, **BATCHES, **ANNOTATIONS}
"""What is warned of, by code."""

REFUSALS: dict[str, Entry] = {
    "strict": Entry(
        "--strict was given, and the slide has warnings.",
        "Mend what is warned of, or screen it without --strict.",
    ),
    "mpp-missing": Entry(
        "Neither the slide nor the user says how many µm a pixel is wide; it is never guessed.",
        "Give it with --mpp, or one a slide with --mpp-table.",
    ),
    "mpp-oblong": Entry(
        "The slide states different scales in x and y: it can't be measured.",
        "If the file is wrong, overrule it by --mpp-override or --mpp-table.",
    ),
    "channels": Entry(
        "The slide's channels are not grey or RGB, with opacity or without: those of fluorescence, "
        "say. Which would be red, green and blue is not guessed.",
        "Export it as RGB of 8 bits a sample.",
    ),
    "colour-contradiction": Entry(
        "The file says otherwise than its frames do how colours are stored (RGB or YCbCr), and it "
        "can't be read here so that they come out right.",
        "Export the slide anew, or as TIFF.",
    ),
    "exif-size": Entry(
        "The annotations state the size of the picture as it is stored, but EXIF has it turned "
        "as it is shown. Whether they were drawn on the one or the other can't be told.",
        "Turn the picture for good (as `exiftran -a` or `magick -auto-orient` do) and annotate "
        "that; or, if they were drawn on what is shown, exchange the stated width and height.",
    ),
    "ending-contradicted": Entry(
        "The content of the file is not what its ending promises, as with a preview that is left "
        "of a slide. Nobody knows whether it is the slide.",
        "Copy the slide again, with all its files; rename the file if it is what its content says.",
    ),
    "data-missing": Entry(
        "The file is only the head of a slide, whose pixels lie in other files that are missing or "
        "not read.",
        "Copy the slide's data folder beside it, under the same name, or export it as a TIFF.",
    ),
    "vendor-refused": Entry(
        "The format was recognised, and its reader refuses the file. No other reader is tried, as "
        "it might show a part of the slide or another picture.",
        "Copy the file again, or export it from the scanner's software as a pyramidal TIFF.",
    ),
    "several-areas": Entry(
        "The file holds several images that may each be a specimen area, but of different scales "
        "or kinds of pixels, or at places that overlap: they can't be joined.",
        "Export each as a file of its own.",
    ),
    "planes-unreadable": Entry(
        "The file holds several focal planes which can't be told apart or decoded.",
        "Export the plane that is in focus as a file of its own.",
    ),
    "too-coarse": Entry(
        "The slide is coarser than the model by more than 2 times.",
        "Take a model for this scale; --set tiler.allow_coarse=true screens it all the same.",
    ),
}
"""What is refused, by code."""


def page() -> str:
    """``docs/warnings.md``."""
    parts = (
        ("Slides", SLIDES),
        ("Batches", BATCHES),
        ("Annotations", ANNOTATIONS),
        ("What is refused", REFUSALS),
    )
    lines = [
        "# Warnings and refusals, by code",
        "",
        "What is ambiguous, contradictory, partial or implausible is settled by a rule and told,",
        "or refused with what to do. A warning's code stands behind its sentence: on the",
        "terminal, in `report.html`, `report.json` (`warnings`), `summary.html`, `summary.csv` and",
        "`run.log`. A refusal is an error: of a slide (exit code 1; the others go on), or of a",
        "call.",
        "`cytolibra screen --strict` turns the warnings of a slide into its failure. This page is",
        "made from `configs/doubts.py` by `make docs`.",
    ]
    for title, entries in parts:
        if entries:
            lines += [
                "",
                f"## {title}",
                "",
                "| code | what it means | what to do |",
                "| --- | --- | --- |",
            ]
            lines += [f"| `{code}` | {e.means} | {e.todo} |" for code, e in sorted(entries.items())]
    return "\n".join(lines) + "\n"


def write_page() -> None:
    """Writes ``docs/warnings.md`` anew."""
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
