"""Every code of a warning or a refusal: what it means, and what to do about it.

Codes are stable: programs and people look for them. A new one goes into the table of what it is of;
``docs/reference/warnings.md`` is made of them by ``make docs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Entry(NamedTuple):
    """What a code stands for.

    Attributes:
        means: what was seen, and by which rule it was settled.
        todo: what a person does about it.
    """

    means: str
    todo: str


SLIDES: dict[str, Entry] = {
    "out-of-domain": Entry(
        "The cells that were found do not look like those that the model was trained on: stain or "
        "structure around their centres lies farther off than that of fields like the model's own. "
        "It may be no cytology, another stain, or out of focus. No category is suggested.",
        "Look at the slide. If it is what you meant to screen, take a model that was trained on "
        "such slides; --set domain.check=false takes cells whatever they look like.",
    ),
    "icc-missing": Entry(
        "Colour profiles are to be applied (color.icc), and the slide embeds none. Its colours are "
        "taken as they are stored.",
        "Nothing, if some of the slides have none: it is told so that nobody takes them for alike.",
    ),
    "icc-unusable": Entry(
        "The colour profile that the slide embeds is damaged, or not of RGB pixels; it was to be "
        "applied (color.icc). Its colours are taken as they are stored.",
        "Export the slide anew, or leave color.icc off.",
    ),
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
    "mpp-estimated": Entry(
        "The slide carries no µm per pixel, or an absurd one, and --mpp estimate was given. It is "
        "estimated from the look of the cells, with the standard error that is told.",
        "Take the figure for what it is: areas, rates a mm² and grades depend on it. Give the true "
        "one with --mpp as soon as it is known.",
    ),
    "scale-contradicts": Entry(
        "The cells look larger or smaller than they would at the slide's µm per pixel, by more "
        "than the error of that estimate bears (2.58 standard errors: of slides whose scale is "
        "right one in a hundred). The slide's own scale is used all the same. Where most places "
        "that are looked at are unlike what the model has learned from, nothing is told.",
        "Find out the true scale, by a stage micrometer or the scanner's software, and give it "
        "with --mpp-override. At a wrong one cells are missed and misjudged.",
    ),
    "scale-unchecked": Entry(
        "The slide's µm per pixel was not held against its cells, as the model's network for that "
        "can't be run on this machine. A wrong scale goes unnoticed.",
        "Mend what the warning names (mostly OpenVINO), or leave the check out: --set "
        "scale.check=false.",
    ),
    "mpp-coarse": Entry(
        "The slide is coarser than the model, or than the tiles of `cytolibra tile`, by more than "
        "1.3 times: it is enlarged, and details that the model or a person looks for are not in "
        "it. By more than 2 times it is refused.",
        "Scan with a stronger objective, or take a model for this scale; for tiles a larger "
        "--tile-mpp.",
    ),
    "second-look-coarse": Entry(
        "The slide is coarser by more than 1.3 times than what the model's second look was trained "
        "on: cells are enlarged for it. By more than 2 times nothing is looked at again: the "
        "detector's own scores and thresholds hold, and no slide rule is applied.",
        "Scan with a stronger objective; or switch it off with --set second_look.enabled=false.",
    ),
    "second-look-unread": Entry(
        "Cells that were to be looked at again can't be read at the second look's scale, though "
        "the detector's was readable. They keep the detector's scores, and are named by its own "
        "thresholds.",
        "The file is damaged: copy it again.",
    ),
    "too-dark": Entry(
        "The slide does not look like a stained smear under transmitted light: on the overview its "
        "clear parts are darker than 170 of 255, or half of it is darker than 90. It may be black, "
        "inverted, or scanned with too little light.",
        "Look at the slide, and scan it again.",
    ),
    "tinted-glass": Entry(
        "The slide does not look like a stained smear under transmitted light: the clear parts of "
        "its overview are tinted; their red, green and blue differ by more than 60 of 255.",
        "Check the scanner's white balance, and scan it again.",
    ),
    "no-glass": Entry(
        "The slide does not look like a smear: no empty glass is to be seen on its overview "
        "(asked of slides of at least 10 mm²).",
        "Look at the slide: it may be overstained, or no cytology.",
    ),
    "hardly-any-cells": Entry(
        "Less than a thousandth of the scanned area has anything on it (asked of slides of at "
        "least 10 mm²).",
        "Look at the slide. If it has cells, screen with --set foreground.enabled=false.",
    ),
    "out-of-focus": Entry(
        "At most of nine places with cells, fine details (0.5 to 1 µm) are missing against coarse "
        "ones (1 to 2 µm), as in a field blurred by 1 µm.",
        "Scan the slide again; cells on it are missed and misjudged.",
    ),
    "out-of-focus-areas": Entry(
        "More than `quality.out_of_focus` of the squares of 128 µm with stain is out of focus: "
        "fine details are missing against coarse ones, as in fields blurred by 1 µm.",
        "Look at the map in report.html, and scan the slide again if cells matter there; "
        "`area.out_of_focus_mm2` says how much it is.",
    ),
    "dark-areas": Entry(
        "More than `quality.dark` of the specimen lets too little light pass: it is too thick, or "
        "overstained.",
        "Look at the map in report.html; cells there can hardly be seen, whoever looks.",
    ),
    "pen-marks": Entry(
        "Pen marks cover more than `quality.ink` of the specimen and themselves. What doesn't show "
        "through them was left out.",
        "Wipe the slide and scan it again if cells may lie below.",
    ),
    "bubbles": Entry(
        "More than `quality.bubbles` of the specimen lies in air bubbles, or at the edge of the "
        "coverslip, by their dark outlines.",
        "Look at the map in report.html; mount the slide anew if cells matter there.",
    ),
    "colours-swapped": Entry(
        "The densest parts of the slide absorb more blue than red against the rest, where stained "
        "nuclei absorb red: red and blue may be swapped.",
        "Look at the slide; if nuclei are brown, export it again with the channels in order.",
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
        "The file holds several focal planes, and not all of them are looked at: one is read, the "
        "best-focused where their pixels can be compared, or the one that was asked for; or some "
        "can't be read. Cells that are in focus in another may be missed.",
        "Screen it with --planes best or --planes all where the format lets all be read; look "
        "through the planes where it matters.",
    ),
    "planes-searched": Entry(
        "Each place was looked at in several focal planes (planes = all), and the best score "
        "counts. The model's figures of false alarms hold for one plane: more are to be expected.",
        "Weigh what is found against that; --planes best looks at each place once.",
    ),
    "plane-unread": Entry(
        "Parts of some focal planes could not be read. Others were taken there as far as they can "
        "be read; what could be read in none is in area.unread.",
        "Copy the file again, or scan the slide again.",
    ),
    "bounds-beyond": Entry(
        "The scanned area that the file states reaches beyond the slide. What lies on the slide is "
        "screened; all of it, where nothing of the area does.",
        "Look whether the report's picture shows all of the specimen.",
    ),
    "level-left-out": Entry(
        "A coarser level of a DICOM series is damaged, lacks a part or does not fit the finest one "
        "(its shape, its scale, its place, its tiles or its focal planes), or one of a TIFF lacks "
        "tiles that the finest one has. It is not read; finer levels serve.",
        "Nothing, if reading is fast enough. Else copy the slide again, or export it anew.",
    ),
    "level-missing": Entry(
        "The finest level of a DICOM series that is there says that it was made of a finer one. "
        "What is there is read; cells may be too small to be told apart.",
        "Copy all files of the series.",
    ),
    "frames-absent": Entry(
        "The finest level of a DICOM slide has no frame for some of its tiles (TILED_SPARSE), "
        "which says that they were not scanned: they are shown as glass, but unread where a "
        "coarser level shows something. Where none of the level's files says how many there are, "
        "one may be missing. Or there is no frame in the focal plane that is read: then the "
        "nearest plane's is shown.",
        "Look whether the report's picture shows all of the specimen, and whether all files of "
        "the series were copied.",
    ),
    "extent-contradicted": Entry(
        "A DICOM slide says how large it is in mm (ImagedVolumeWidth, ImagedVolumeHeight), and "
        "that contradicts its µm per pixel (PixelSpacing) by more than 5%. The latter is used.",
        "Check the scale; overrule it by --mpp-override or --mpp-table where it is wrong.",
    ),
    "chunks-missing": Entry(
        "Chunks of an OME-Zarr are not stored. The format says that these have the fill value "
        "everywhere, and there is no coarser level that tells whether they were lost instead. The "
        "fill value is shown, or glass where it is dark.",
        "Copy the folder again if the report's picture has blank squares where cells should be.",
    ),
    "tiles-missing": Entry(
        "Tiles of a TIFF's, KFB's or TMAP's finest level are not stored, which says that nothing "
        "was scanned there, and there is no coarser level that tells whether they were lost "
        "instead. They are shown as glass.",
        "Copy the slide again if the report's picture has blank squares where cells should be.",
    ),
    "unread-area": Entry(
        "Part of the slide could not be read, and was not screened; see area.unread.",
        "Copy the file again, or scan the slide again.",
    ),
    "nothing-screened": Entry(
        "No cells were seen on the overview: nothing was screened, no tile written, or none taken "
        "for `cytolibra export --calibration`.",
        "Look at the slide. If it has cells, screen with --set foreground.enabled=false, or tile "
        "with --all.",
    ),
    "slide-not-there": Entry(
        "The report was made anew by cytolibra rescore, and the slide was not where it was when it "
        "was screened. Counts and suggestion hold; there are no pictures, and whether the cells "
        "look like the model's own is told by those of the report before.",
        "Put the slide back where the report says, and run cytolibra rescore again with "
        "--overwrite.",
    ),
    "unsatisfactory": Entry(
        "By the number of its squamous cells, or by how much of it is obscured, the specimen would "
        "be unsatisfactory: that no abnormal cells were found says little then.",
        "See adequacy in the report. If the limit is not yours, change the settings of adequacy.",
    ),
    "uncoded": Entry(
        "A warning from a report that an earlier version wrote, which had no codes.",
        "Screen the slide again.",
    ),
}
"""Of slides, as they are opened and screened."""

BATCHES: dict[str, Entry] = {
    "names-left-out": Entry(
        "Objects in a store whose keys no folder on a disk can hold: with an empty part, . or .. "
        "in them. They are left out.",
        "Copy them to other keys.",
    ),
    "remote-unversioned": Entry(
        "A server tells neither an ETag nor when a file was changed. That its slide is done can't "
        "be known: it is fetched and screened again each time.",
        "Put it on a server that tells them, or fetch it once yourself.",
    ),
    "files-not-read": Entry(
        "Files that look like slides, by their ending or their content, are of kinds that are not "
        "read. Each is named with what would read it.",
        "Export them as a format that is read (the documentation lists them under your own "
        "slides), or move them away.",
    ),
    "images-left-out": Entry(
        "Plain images in folders carry no scale, and were left out.",
        "Give their scale with --mpp or --mpp-table if they are slides.",
    ),
    "mpp-table-unused": Entry(
        "Rows of --mpp-table name none of the slides.",
        "Check their names: a slide is named by its file, with folders in front where needed.",
    ),
    "mixed-settings": Entry(
        "In the folder are reports of other settings than the run's, or of slides that have "
        "changed since: it was cut short, or a slide failed that was done before. They stay where "
        "they are, but don't count: the summary has no figures of theirs.",
        "Run the same command again. cytolibra rescore FOLDER --dry-run tells of which settings "
        "each report is.",
    ),
    "slides-of-before": Entry(
        "In the folder are slides of earlier calls, screened or failed, that this call doesn't "
        "name. Their reports stay. Summary, cytolibra status and cytolibra retry go by the last "
        "call alone; cytolibra merge, rescore and calibrate take every report that is there.",
        "To have all in one summary, name all slides in one call: what is done is not done again. "
        "To keep calls apart, give each its own --out.",
    ),
    "shard-behind": Entry(
        "A slide's name says which part of --shard i/n it falls to. These fall to a part that had "
        "listed its slides before they came, and has ended: nobody has screened them.",
        "Run that part once more: what is done is not done again. Where slides keep coming, let "
        "all processes be started with one and the same command, without --shard.",
    ),
    "outputs-left-out": Entry(
        "Below the folder of a run's reports lie those of another run, in a folder with a record "
        "of its own (run.json). They are left out.",
        "Name that folder itself for its slides. Of a folder without a record, one that holds the "
        "outputs of several runs, all slides are taken.",
    ),
    "tiles-mixed": Entry(
        "cytolibra tile writes beside tiles of other slides that an earlier call wrote at another "
        "scale or of another size. They stay; the manifest tells the scale and size of each.",
        "Nothing, if that is wanted. Else name another --out, or tile these slides anew, too.",
    ),
    "settings-unknown": Entry(
        "cytolibra rescore takes what it is not given from the record of the run that screened "
        "(run.json), and there is none that can be read. The defaults are used.",
        "Give all settings, and --model if it was not the default; or screen again.",
    ),
    "workers-share-cores": Entry(
        "--workers asks for several processes on one CPU. One keeps all cores busy; several share "
        "them evenly, need as many times the memory, and the last slides leave cores idle.",
        "Leave --workers; --isolate keeps slides apart from each other's crashes.",
    ),
    "resumed": Entry(
        "A library crashed in a process of this run, or the system killed it for want of memory. "
        "Another process went on: what was done stays, and slides that were in work had processes "
        "of their own, so that one that crashes again fails alone.",
        "Look which slides have failed with `process-died`. `--isolate` keeps every slide apart "
        "from the start.",
    ),
    "screened-again": Entry(
        "The process that screened a slide died, and a new one screened it. The result is as any "
        "other's.",
        "Nothing, if it was killed for want of memory. Else keep an eye on these slides and on the "
        "machine; `run.log` says what it died of.",
    ),
    "no-dicom-identity": Entry(
        "--dicom writes objects into the study of DICOM slides, and some slides are none: they "
        "have no study, and get no cells.ann.dcm and no report.sr.dcm.",
        "Give --dicom-derived: they get UIDs that are derived from their content. cytolibra "
        "objects does so for results that are there.",
    ),
    "no-lock": Entry(
        "The file system of --out has no locks. The run goes on, and processes with the same "
        "command share the slides as elsewhere; but a `cytolibra rescore` or a shard that starts "
        "there would not be noticed.",
        "See to it that nothing else writes there, or write to a local disk.",
    ),
    "runtime-fallback": Entry(
        "The runtime or precision that would be taken first can't be had on this machine; the "
        "next best one runs.",
        "Nothing, but for speed. `cytolibra doctor` tells what this machine can run.",
    ),
    "xlsx-cells-missing": Entry(
        "cells.csv of some slides was removed or changed since they were screened. Their cells are "
        "missing in summary.xlsx; everything else of them is there.",
        "Screen these slides again with --overwrite.",
    ),
    "xlsx-cut": Entry(
        "There are more slides or cells than a sheet of Excel has rows. summary.xlsx has the first "
        "of them, in the order of the work list.",
        "Take cells.csv of the slides, or list fewer cells: --set reports.xlsx_score=0.8.",
    ),
}
"""Of a batch as a whole."""

TRAINING: dict[str, Entry] = {
    "class-untrained": Entry(
        "The fields to learn from have no cell of a class of the model. It is never going to be "
        "found, and its figures mean nothing.",
        "Give fields with such cells, or take the class out of model.classes.",
    ),
    "class-unjudged": Entry(
        "The fields to judge by have fewer than 20 cells of a class. Its figures go by chance, and "
        "an interval of so few fields can't tell how much; training gives an abnormal class of "
        "them the threshold of all abnormal ones.",
        "Give more fields with such cells, or judge it merged with others.",
    ),
    "false-alarms-unknown": Entry(
        "The annotated fields can't tell how many false alarms the model raises a mm²: there are "
        "too few of them, or the scale of one is unknown. The figures go without, and so do "
        "thresholds that are written: those of the old ones hold no more. A report by them can't "
        "tell what is more than chance.",
        "Give five fields or more, with their scale (--mpp), or measure it on normal slides: "
        "cytolibra calibrate --negatives.",
    ),
    "confusion-unknown": Entry(
        "Normal slides can't show how often a model takes one grade for another. Its own card is "
        "to say it, and doesn't: nobody knows which model it was, or its figures are of other "
        "weights or thresholds, or missing. The file has false alarms alone. On a slide with many "
        "cells of one grade the few that are called another one are more than these explain.",
        "Name the model with --model; screen at its thresholds; or measure its figures: evaluate "
        "--write-false-alarms.",
    ),
    "counting-unknown": Entry(
        "The annotated fields can't tell how many cells there are for each that the model reports: "
        "there are too few of them, no cell is marked, or none is reported. The model's card goes "
        "without, and reports estimate no number of squamous cells.",
        "Measure it on five fields or more with marked cells: evaluate --write-accuracy.",
    ),
    "group-unknown": Entry(
        "Of some fields, or of slides with a label, nobody says the patient (or slide) by which "
        "they are to be kept together. Each counts as one of its own, so that parts of a split may "
        "share a patient, and intervals come out too narrow.",
        "Say it for all: by --groups, or in the column patient of the labels.",
    ),
    "positive-differs": Entry(
        "A slide rule is judged on slides of which other labels count as positive than those that "
        "it was fitted for. Its sensitivity, and what it promises of slides that are set aside, "
        "hold for its own alone.",
        "Give evaluate the --positive that the rule was calibrated with, or calibrate a rule anew.",
    ),
    "licence-unstated": Entry(
        "The data or the teacher of a training run state a licence, and the settings' card.licence "
        "is empty. The card names theirs and states none of its own.",
        "Read their terms, and state the licence of your weights in card.licence.",
    ),
    "data-unstated": Entry(
        "Runs of a comparison, or their records, are of a version that didn't keep on which data "
        "they were made. They count; whether it was that of the others nobody can tell.",
        "Make these runs anew if the annotations or images may have changed since.",
    ),
    "random-frozen": Entry(
        "`optimiser.freeze` keeps the backbone's first stages from learning, and some of them have "
        "no starting weights: without `backbone_weights`, or where the backbone has a stage that "
        "no file has weights of. All that the network sees passes through random filters.",
        "Set model.backbone_weights (of a grader grader.backbone_weights), or optimiser.freeze to "
        "0.",
    ),
    "setting-idle": Entry(
        "The settings of a training run change something that only another detector has, such as "
        "`model.anchors` with FCOS, or the weight of a loss that there is none of with a teacher "
        "(`model.abnormal_head.weight` with `distillation`). It does nothing.",
        "Leave it out, or set model.name to the detector that it is of.",
    ),
    "name-of-shipped": Entry(
        "The model of a training run has the name of a model that we ship, by card.name or by the "
        "folder --out. It keeps it; called by that name, it is the shipped one that is found.",
        "Name another folder with --out, or set card.name; or give the model by its folder.",
    ),
}
"""Of training runs."""

ANNOTATIONS: dict[str, Entry] = {
    "annotation-mpp": Entry(
        "The annotation file, or a setting, states another µm per pixel than the image itself. The "
        "image's own is used; where it carries none the file's, and that before the setting's.",
        "Nothing, if the annotations were drawn by a tool that didn't know the scale. Else check "
        "that they are of this image.",
    ),
    "annotation-mpp-used": Entry(
        "The image carries no µm per pixel, and what the annotation tool noted down is used.",
        "Check it, or give images that carry their scale.",
    ),
    "annotation-setting-idle": Entry(
        "A setting of how annotations are read is for a kind that these are not, such as `yolo` "
        "where nothing was read as YOLO, or `point_size` where no cell is a point. It does "
        "nothing.",
        "Leave it out; or check, by `format`, whether the files are what you took them for.",
    ),
    "annotations-not-read": Entry(
        "Files beside annotations are called like images, but hold nothing of a known format. They "
        "are passed over, and their images are left out: they may have cells.",
        "Look at these files: a comma for a point or a note in a line is enough.",
    ),
    "box-outline-differ": Entry(
        "An annotation has a box and an outline or mask that lie elsewhere (less than half of them "
        "is shared). The box holds.",
        "Look at these annotations; take away whichever is wrong.",
    ),
    "background-in-fold": Entry(
        "A grader learns what looks like a cell and is none from the false alarms of a detector "
        "that may have learned from the same fields. It makes fewer and easier ones there than "
        "elsewhere.",
        "Train the detector's recipe once for each fold of the fields, and name the runs in "
        "`candidates`.",
    ),
    "boxes-on-glass": Entry(
        "A third or more of the annotated boxes that were looked at (up to some 50 of a set) hold "
        "nothing but even background. They are used as they are.",
        "Check that the annotations are of these images, in this frame and at this scale.",
    ),
    "boxes-outside": Entry(
        "Some boxes lie wholly outside of their image, or of what was scanned of it. Those outside "
        "of the image are left out; where it were more than half, they would be refused.",
        "Check that the annotations are of this image, in this frame and at this scale.",
    ),
    "category-twice": Entry(
        "Several categories of a COCO file have the same name. They are one class.",
        "Nothing, if they mean the same. Else give them different names.",
    ),
    "category-unused": Entry(
        "A category of a COCO file only stands above others (their supercategory), and no "
        "annotation is of it. It is no class.",
        "Nothing.",
    ),
    "cells-of-two-classes": Entry(
        "Cells of different classes have exactly the same box. Each is taken as a cell.",
        "Look at them, and take away the class that is wrong.",
    ),
    "cells-twice": Entry(
        "Cells of one class have exactly the same box. Each counts, as the file has it.",
        "Take the doubles out of the file: a detector can find a cell only once.",
    ),
    "class-attribute": Entry(
        "Regions of a VIA file have several attributes. The one whose name means a class is taken.",
        "If another one is the class, call it class.",
    ),
    "class-count": Entry(
        "The YAML file of a YOLO set says a number of classes (nc) that its names don't have. The "
        "names hold.",
        "Mend nc or names.",
    ),
    "class-files-differ": Entry(
        "Several files beside YOLO labels name the classes differently. classes.txt goes before "
        "obj.names, that before YAML files.",
        "Take away the ones that don't belong to these labels.",
    ),
    "class-numbers": Entry(
        "No file says what the numbers of YOLO's classes mean. The numbers are taken as names.",
        "Put classes.txt or the set's YAML file beside the labels, or up to two folders above.",
    ),
    "classes-unused": Entry(
        "The table of classes renames names by which nothing is called in these annotations; one "
        "may be a slip for a name that is there. Of a public set's table, called by its name, "
        "nothing is told.",
        "Compare the names, capitals and blanks included, or take the entry out.",
    ),
    "classes-alike": Entry(
        "Names of classes differ in capitals or blanks only. They are different classes.",
        "If they are one, map them in the table of classes (classes, --classes OLD=NEW).",
    ),
    "columns-several": Entry(
        "Several columns of a table could be the class, the slide or the image, and they differ. "
        "The first in the list of known names is used.",
        "Rename or delete the column that isn't meant.",
    ),
    "corner-assumed": Entry(
        "A table has x, y, width and height (or `bbox`), and doesn't say whether x and y are a "
        "corner or the centre. They are taken for the top left corner, as COCO has it.",
        "Call the columns left, top, width, height, or x_center, y_center, width, height.",
    ),
    "corners-swapped": Entry(
        "The corners of boxes stand in the wrong order, or a width or height is negative. They are "
        "put in order.",
        "Nothing, if the boxes are right; look at some.",
    ),
    "counted-from-zero": Entry(
        "Boxes of a VOC file begin at 0, though VOC counts pixels from 1. They are read as VOC's: "
        "one pixel further to the top left.",
        "Nothing; it is one pixel.",
    ),
    "crowds-ignored": Entry(
        "The annotations mark crowds of cells, or objects as difficult. Their places are ignored: "
        "neither cells nor background.",
        "If your tool calls every mask a crowd, read them as cells: crowds: cells, --crowds cells.",
    ),
    "detections-read": Entry(
        "The file is what `cytolibra screen` wrote: cells that a model found, not what a person "
        "annotated. It is read all the same.",
        "Don't train or evaluate on it before a person has gone through it.",
    ),
    "difficult-unclear": Entry(
        "An object of a VOC file is difficult neither yes (1, true, yes) nor no. It is taken as "
        "not difficult.",
        "Write 0 or 1.",
    ),
    "encoding-assumed": Entry(
        "A table is no UTF-8 and doesn't tell its encoding. It is read as Windows' western one "
        "(cp1252), which latin-1 is a part of.",
        "Look whether names have their accents; else save the table as UTF-8.",
    ),
    "frame-qupath": Entry(
        "The slide has bounds, to which QuPath crops it: annotations by QuPath count from their "
        "corner, and are moved by as much.",
        "Nothing, if QuPath opened the slide by OpenSlide. Else set `frame` to slide.",
    ),
    "frame-without-bounds": Entry(
        "Coordinates are said to count from the corner of what was scanned (`frame: bounds`), and "
        "the image, or its reader, states no such part. They are taken to count from the image's "
        "own corner.",
        "Nothing, if the slide has no bounds. Else read it by OpenSlide, or compare a cell with "
        "the slide.",
    ),
    "ids-mixed": Entry(
        "Ids of a COCO file are numbers in one place and text in another. Text that is a plain "
        "number is that number.",
        "Nothing; or mend the tool that wrote it.",
    ),
    "image-by-own-name": Entry(
        "The image that an annotation file names isn't there; one with the annotation file's own "
        "name is, and is taken.",
        "Nothing, if images were renamed together with their annotations.",
    ),
    "image-capitals": Entry(
        "The name of an image differs in capitals from that in the annotations. It is taken, as "
        "no other is called so.",
        "Nothing.",
    ),
    "image-other-ending": Entry(
        "The annotations name an image with another ending (.jpg for .png). As both are plain "
        "images and no other is called so, it is taken.",
        "Nothing, if images were converted and kept their size.",
    ),
    "image-other-folder": Entry(
        "The annotations name a folder that the one of the image is not called, where it is the "
        "folder given as --images or says nothing (images). The image is taken.",
        "Nothing, if this is the folder that was annotated. Images of different slides often have "
        "the same names.",
    ),
    "images-without-annotations": Entry(
        "Images lie beside annotated ones and have no annotation file. They are left aside: "
        "nobody says whether they have cells.",
        "Annotate them, or give those without cells an empty annotation file.",
    ),
    "images-without-cells": Entry(
        "A file that lists all images of a task has some without any shape. They are taken as "
        "fields without cells: all of them is background.",
        "Make sure that the task was finished; take images that nobody looked at out of the file.",
    ),
    "images-without-labels": Entry(
        "Images lie beside labelled ones and have no YOLO label file. By YOLO's own rule they are "
        "fields without cells, unless more have none than have one; then they are left out.",
        "Set unlabelled (--unlabelled) to negative or left-out; unannotated cells that are taken "
        "as background spoil training.",
    ),
    "keypoints": Entry(
        "Lines of YOLO labels are boxes with keypoints. The boxes are taken.",
        "Nothing.",
    ),
    "mask-frame": Entry(
        "The runs of a CVAT mask don't fill its frame. The frame is taken as the box.",
        "Look at these cells; export the task again.",
    ),
    "nuclei-outside": Entry(
        "The nuclei of some cells lie outside of the cells' boxes. The middles of these boxes are "
        "taken; where it were more than half of the nuclei, they would be refused.",
        "Look at these cells; check that boxes and nuclei are in one frame and at one scale.",
    ),
    "outline-closed": Entry(
        "Outlines were drawn open, with their ends close to each other (up to a quarter of their "
        "length). They are taken as closed; others are lines, and left out.",
        "Nothing, if they go around cells.",
    ),
    "fields-overlap": Entry(
        "Images show the same place as others: neighbouring or repeated captures, crops, or copies "
        "at another scale, in other colours or turned over. A split keeps them together.",
        "Look at the ones that are named. Take copies out of the set: their cells count twice.",
    ),
    "fields-not-compared": Entry(
        "Images can't be compared with the others: they show too little, or can't be read; or they "
        "are slides, of which only files of the same content are found.",
        "Make sure that no other image shows the same place.",
    ),
    "parts-grouped": Entry(
        "Shapes of one label with the same group_id in a Labelme file are parts of one cell, which "
        "has the box around all of them.",
        "If they are cells of their own, take the group_id away.",
    ),
    "planes-merged": Entry(
        "Cells are drawn on several focal planes: boxes of one class on different planes that "
        "overlap by more than half (intersection over union). Each counts once, as drawn first.",
        "Nothing.",
    ),
    "predictions": Entry(
        "YOLO labels have a confidence in each line, as a detector writes them. They are taken as "
        "annotations, and the confidence is left aside.",
        "Make sure that a person looked at them: a detector's output is no truth.",
    ),
    "rows-without-cells": Entry(
        "Rows of a table name an image and no place. They count as no cell; the image counts as "
        "annotated.",
        "Nothing, if the image has no cells.",
    ),
    "shapes-left-out": Entry(
        "Shapes that enclose nothing or can't be told, such as lines, skeletons and empty masks, "
        "are no cells, and are left out.",
        "Draw a box, an outline or a point where a cell is meant.",
    ),
    "split-incomplete": Entry(
        "A split gives images to a part that aren't among the annotated ones. The part is taken "
        "without them, and its figures are not those of the whole part.",
        "Download or add what is missing; or make a split of what is there.",
    ),
    "text-as-class": Entry(
        "Some regions of a layer carry a text of their own, which goes before the layer's name as "
        "their class; others don't.",
        "If a text is a comment, map it to the class in the table of classes.",
    ),
    "tiles-left-out": Entry(
        "QuPath's tiles, TMA cores and the image itself are objects too, but no cells. They are "
        "left out.",
        "Nothing.",
    ),
    "z-left-out": Entry(
        "Corners have a third number, which differs from corner to corner. It is left out: the "
        "first two are x and y.",
        "Nothing.",
    ),
}
"""Of annotations, as they are read."""

REFUSALS: dict[str, Entry] = {
    "boxes-elsewhere": Entry(
        "More than half of the boxes of an image (of three or more), or of all, lie outside of it "
        "or of what was scanned. They are of another image, at another scale or in another frame.",
        "Give the right image. For slides with bounds, try the setting `frame`.",
    ),
    "nuclei-elsewhere": Entry(
        "More than half of the nuclei of an image (of three or more), or of all, lie outside of "
        "the boxes of their cells. They are at another scale or in another frame than the boxes.",
        "Give both in the same pixels, or take the nuclei out: the boxes' middles then stand for "
        "them.",
    ),
    "geographic-crs": Entry(
        "A GeoJSON file states a coordinate reference system: degrees or metres on the Earth.",
        "Export it in pixels of the image, or take the member `crs` out if they are pixels.",
    ),
    "reader-failed": Entry(
        "A reader of another package crashed, took too long, raised an error, or said of the slide "
        "what can't be true. Other slides go on.",
        "Tell those who made the package, with the line; a newer version of it, or a copy of the "
        "slide in another format, may be readable.",
    ),
    "remote-gone": Entry(
        "A slide that was listed, or named by its URL, is not there any more.",
        "Start again: slides are listed anew.",
    ),
    "remote-denied": Entry(
        "The store or server that a slide is fetched from refuses: there is no credential, a wrong "
        "one or one that has expired, no permission to read, or the object is archived.",
        "Renew the credential, or have reading allowed, and start again: what is done stays.",
    ),
    "remote-cut": Entry(
        "A slide could not be fetched, however often each piece of it was asked for "
        "(cloud.tries): the connection was cut, or the server failed.",
        "Start again when the network is back.",
    ),
    "remote-changed": Entry(
        "A slide's size, ETag or generation is another one than when it was listed, as seen before "
        "or after it was fetched. Nothing of it is taken.",
        "Start again, once who writes it is done.",
    ),
    "remote-damaged": Entry(
        "What was fetched does not fit the checksum that the store has of it, twice in a row.",
        "Copy the slide to the store again.",
    ),
    "scratch-full": Entry(
        "A slide is larger than the scratch folder may become, or its disk is full.",
        "Set cloud.scratch_gb, or cloud.scratch to a folder on a larger disk.",
    ),
    "other-slide": Entry(
        "A report of this name lies there, of a slide that lay elsewhere and had other content: "
        "another one. It stays as it is.",
        "Give another --out; or name the folder above both slides, so that their reports lie in "
        "folders, too. If the older report is of no use, --overwrite replaces it.",
    ),
    "process-died": Entry(
        "The process that read or screened the slide died: a library crashed on it (segmentation "
        "fault, abort), or the system killed it, mostly for want of memory. It was tried a second "
        "time, by a new process. Other slides go on.",
        "Copy the slide again. If it was killed, free memory or take fewer --workers. `run.log` "
        "has the last words of the process, for whoever made the library.",
    ),
    "over-limit": Entry(
        "The slide took more memory or time than `limits.memory_gb` or `limits.seconds` allow. Its "
        "process was ended. Other slides go on.",
        "Allow more, if the slide is just large; else copy it again.",
    ),
    "strict": Entry(
        "--strict was given, and the slide has warnings.",
        "Mend what is warned of, or screen it without --strict.",
    ),
    "out-in-use": Entry(
        "Another run is at work in the output folder. One run at a time has it: processes with the "
        "same command, which share the slides, or one of each --shard of one count. The message "
        "says what the other one has otherwise.",
        "Wait until it has ended, start the very same command, name another --out, or part the "
        "slides with --shard i/n. Machines that differ need --precision in the command.",
    ),
    "mpp-missing": Entry(
        "Neither the slide nor the user says how many µm a pixel is wide. It is never guessed.",
        "Give it with --mpp, or one a slide with --mpp-table; --mpp estimate estimates it.",
    ),
    "mpp-not-estimated": Entry(
        "--mpp estimate was given, and the slide's cells don't tell its scale: there are too few, "
        "most of what was looked at is unlike what the model has learned from, two scales fit, or "
        "the slide doesn't look like a smear.",
        "Give it with --mpp, or one a slide with --mpp-table.",
    ),
    "mpp-oblong": Entry(
        "The slide states different scales in x and y: it can't be measured.",
        "If the file is wrong, overrule it by --mpp-override or --mpp-table.",
    ),
    "boxes-are-corners": Entry(
        "Boxes that should be x, y, width and height reach over the border of their images, while "
        "all of them fit as x_min, y_min, x_max and y_max.",
        "Write widths and heights: x_max - x_min, y_max - y_min.",
    ),
    "boxes-are-shares": Entry(
        "All boxes lie within the first two pixels of their images: they seem to be shares of it.",
        "Multiply them by the width and height of the image.",
    ),
    "image-not-there": Entry(
        "Annotations name an image that isn't there. One of the same name in another folder is "
        "another image.",
        "Give --images the folder that the names are relative to; skip_missing passes over the "
        "images that are somewhere else.",
    ),
    "yolo-ambiguous": Entry(
        "Lines of YOLO labels have more than five numbers, which may be outlines or boxes with "
        "keypoints: all lines together allow both.",
        "Say which: yolo: polygons or pose, --yolo; or kpt_shape in the set's YAML file.",
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
    "plane-not-read": Entry(
        "A focal plane was asked for by its number or place that the file doesn't have, or that "
        "its reader can't give.",
        "Ask for one that the message names, or for --planes best.",
    ),
    "series-mixed": Entry(
        "The files of one DICOM series are of several specimens, pyramids or frames of reference, "
        "or several of them are the finest level, or two that differ are one instance by their "
        "SOPInstanceUID. Which is the slide can't be told.",
        "Put the files of each slide into a series of its own, and in a folder of its own; remove "
        "the one of two instances that doesn't belong there.",
    ),
    "planes-unreadable": Entry(
        "The file holds several focal planes which can't be told apart or decoded.",
        "Export the plane that is in focus as a file of its own.",
    ),
    "kind-not-read": Entry(
        "The file's ending is that of a scanner's own format which is not read.",
        "Export it as SVS, DICOM, pyramidal TIFF or OME-TIFF.",
    ),
    "too-coarse": Entry(
        "The slide is coarser than the model, or than the tiles of `cytolibra tile`, by more than "
        "2 times.",
        "Take a model for this scale; --set tiler.allow_coarse=true screens it all the same. For "
        "tiles, give a larger --tile-mpp.",
    ),
}
"""What is refused, by code."""

WARNINGS: Mapping[str, Entry] = {**SLIDES, **BATCHES, **TRAINING, **ANNOTATIONS}
"""What is warned of, by code."""
