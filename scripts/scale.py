"""``cytolibra scale``: a network that tells how large a slide's cells are shown, for a model."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from configs import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from data.crops.scales import ScaleDraws
    from data.fields.fieldset import FieldSet
    from models import DenseDetector
    from models.card import ScaleFacts
    from models.learning.scale import Lesson, PooledFeatures, ScaleNetwork
    from pipeline.network.scale import ScaleReader

FACTORS = (0.6, 0.8, 1.0, 1.25, 1.6)
"""By which fields are rescaled to measure the error."""

Groups = Annotated[
    Path | None,
    typer.Option(metavar="CSV", help="Columns image and slide: whose errors go together."),
]


def scale(
    model: Annotated[
        Path, typer.Option(metavar="DIR", help="A model's folder; the network is put into it.")
    ],
    data: Annotated[
        list[Path], typer.Option(metavar="ANNOTATIONS", help="Of fields to learn from, several.")
    ],
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of all images.")],
    groups: Groups = None,
    check_data: Annotated[
        list[Path] | None,
        typer.Option(metavar="ANNOTATIONS", help="Of other fields, to measure the error on."),
    ] = None,
    per_field: Annotated[int, typer.Option(min=2, help="Places that are drawn of a field.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
) -> None:
    """Teaches a model to tell how large a slide's cells are shown: its µm per pixel.

    With the network that it gets `cytolibra screen` warns of slides whose µm per pixel their cells
    contradict, and `--mpp estimate` estimates that of slides that carry none. It is made of the
    model's own backbone, from fields whose scale is known, in minutes on a CPU; annotations only
    tell which images there are. Its error is cross-validated by slides; with --check-data it is
    measured on other fields, each rescaled by 0.6 to 1.6.
    """
    from data.crops.scales import ScaleDraws
    from models import load_detector
    from models.learning.scale import PooledFeatures
    from models.storage.source import ModelSource
    from pipeline.network.scale import ScaleReader

    if not model.is_dir():
        raise ConfigError(
            f"--model {model}: no such folder; name the model's own, it is written to"
        )
    detector = load_detector(model)
    fields = _read(data, images, groups)
    checked = _read(check_data, images, None) if check_data else None
    draws = ScaleDraws(per_field=per_field)
    features = PooledFeatures(detector)
    lesson = teach(fields, features, _mpp_of(detector), draws, seed)
    told = f"{len(fields.fields)} fields, {lesson.groups} slides or fields left out in turn"
    save(detector, features, lesson, draws, told)
    facts = ModelSource.find(model).card.scale
    assert facts is not None
    Console().print(_summary(facts), soft_wrap=True)
    if checked:
        Console().print(_table(measure(checked, ScaleReader(ModelSource.find(model)))))


def teach(
    fields: FieldSet, features: PooledFeatures, mpp: float, draws: ScaleDraws, seed: int
) -> Lesson:
    """Draws places of fields, and learns how large they are shown.

    Raises:
        ConfigError: a field's mpp is not known, an image can't be read, or there are too few.
    """
    import numpy as np

    from data.crops.scales import draw_places
    from models.learning.scale import teach_scale
    from pipeline.network.openvino_runtime import compile_openvino
    from scripts.slides import images_of

    request = compile_openvino(_to_openvino(features), "fp32").create_infer_request()
    rows, magnifications, groups = [], [], []
    for place in draw_places(fields.fields, images_of(fields), mpp, draws, seed):
        (found,) = request.infer([np.ascontiguousarray(place.pixels)[None]]).values()
        rows.append(found[0].astype(np.float64))
        magnifications.append(place.magnification)
        groups.append(fields.fields[place.field].group("slide"))
    return teach_scale(np.array(rows), np.array(magnifications), groups)


def save(
    detector: DenseDetector, features: PooledFeatures, lesson: Lesson, draws: ScaleDraws, data: str
) -> None:
    """Writes the network into the model's folder, and what is known of it into the sidecar.

    Raises:
        ConfigError: the folder can't be written to.
        ModelFileError: the network holds NaN.
    """
    from models.card import ScaleFacts
    from models.learning.scale import ScaleNetwork
    from models.storage.graphs import add_graph, save_openvino

    assert detector.card is not None
    assert detector.folder is not None
    facts = ScaleFacts(
        side=draws.side,
        reach=draws.reach,
        within=round(lesson.within, 4),
        between=round(lesson.between, 4),
        known=round(lesson.known, 3),
        data=data,
    )
    try:
        network = _to_openvino(ScaleNetwork(features, lesson.head))
        save_openvino(network, detector.folder, "scale", small=True)
        card = detector.card.model_copy(update={"scale": facts})
        add_graph(card, detector.folder, "scale")
    except OSError as error:
        raise ConfigError(f"--model {detector.folder}: can't be written to: {error}") from error


@dataclass
class Errors:
    """What came of fields that were rescaled by one factor.

    Attributes:
        factor: of the rescaling.
        errors: natural logarithms of the scale found over the true one, of those that were judged.
        told: how many of these were told to contradict the scale that they state.
        fields: how many there are.
    """

    factor: float
    errors: list[float] = field(default_factory=list)
    told: int = 0
    fields: int = 0


def measure(fields: FieldSet, reader: ScaleReader) -> list[Errors]:
    """Finds the scale of fields that were rescaled, each for itself, as `cytolibra screen` does.

    Each is enlarged or made smaller by each of `FACTORS`, and states its old scale.
    """
    from scripts.slides import images_of

    images = images_of(fields)
    rows = [Errors(factor) for factor in FACTORS]
    for index, one in enumerate(fields.fields):
        assert one.mpp is not None
        for row in rows:
            size = round(one.width * row.factor), round(one.height * row.factor)
            _measure_one(images.whole(index, size), one.mpp, row, reader)
    return rows


def _measure_one(
    pixels: NDArray[np.uint8], stated: float, row: Errors, reader: ScaleReader
) -> None:
    from PIL import Image

    from pipeline.network.scale import ScaleSettings, estimate_scale
    from pipeline.slides.slide import open_slide
    from pipeline.tiles.foreground import ForegroundSettings, find_foreground

    row.fields += 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "field.png"
        Image.fromarray(pixels).save(path, compress_level=0)
        with open_slide(path, stated) as slide:
            mask = find_foreground(slide, ForegroundSettings())
            found = estimate_scale(slide, mask, reader, stated, ScaleSettings().places)
    if found is not None:
        row.errors.append(math.log(found.mpp / (stated / row.factor)))
        row.told += found.contradicts(stated)


def _read(data: list[Path], images: Path, groups: Path | None) -> FieldSet:
    from configs import validate
    from data.annotations import AnnotationSettings, read_fields
    from scripts.slides import slide_info
    from scripts.telling import tell_doubts

    settings = validate({"groups": groups}, AnnotationSettings, "options")
    fields = read_fields(data, [images], None, settings, slide_info)
    tell_doubts(fields)
    unknown = [str(one.image) for one in fields.fields if not one.mpp]
    if unknown:
        raise ConfigError(f"{unknown[0]}: nobody says its µm per pixel, which is to be learned")
    return fields


def _to_openvino(network: PooledFeatures | ScaleNetwork) -> Any:
    import torch

    from models.storage.export import network_to_openvino

    example = torch.zeros((1, 65, 67, 3), dtype=torch.uint8)
    return network_to_openvino(network.eval(), example, network.OUTPUTS, "the scale's network")


def _mpp_of(detector: DenseDetector) -> float:
    assert detector.card is not None
    return detector.card.mpp


def _summary(facts: ScaleFacts) -> str:
    one, many = (100 * math.expm1(facts.error(places)) for places in (1, 24))
    return (
        f"Standard error of a slide's scale, cross-validated on {facts.data}: {one:.0f}% by one "
        f"place, {many:.0f}% by 24."
    )


def _table(rows: list[Errors]) -> Table:
    import numpy as np

    table = Table(title=f"{rows[0].fields} other fields, each for itself", caption=(
        "rescaled, with the scale that they state unchanged; errors in per cent of the scale"
    ))  # fmt: skip
    for heading in ("rescaled by", "judged", "mean error", "its spread", "told"):
        table.add_column(heading, justify="right")
    for row in rows:
        errors = np.array(row.errors)
        figures = ["-", "-"]
        if len(errors) > 1:
            figures = [f"{100 * errors.mean():+.1f}", f"{100 * errors.std(ddof=1):.1f}"]
        table.add_row(f"{row.factor:g}", str(len(errors)), *figures, str(row.told))
    return table
