"""What all DICOM objects of a slide share: the image they are about, and who made them.

`highdicom`, of the extra ``cytolibra[dicom]``, builds them; here is what it needs to know.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.objects.codes import OWN, Code
from pipeline.objects.source import Header, derived_uid
from pipeline.objects.text import LONG_STRING, long_string
from pipeline.reports.report import SlideReport

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.sr.coding import Code as DicomCode

MANUFACTURER = "CytoLibra"
UTF_8 = "ISO_IR 192"
"""As DICOM calls it."""


@dataclass(frozen=True)
class Maker:
    """Who found the cells, as DICOM has it; values of the type LO.

    Attributes:
        name: of the algorithm: the program and the model.
        version: of the program.
        serial: what tells these weights from others: their SHA-256, or that of several.
        uid: of the program with this version and these weights, as an observer.
    """

    name: str
    version: str
    serial: str
    uid: str

    @classmethod
    def of(cls, report: SlideReport) -> Maker:
        """The maker of a report."""
        version = report.software.get("cytolibra", "") or "unknown"
        identity = report.model.identity or "unknown"
        serial = identity
        if len(identity) > LONG_STRING:
            serial = hashlib.sha256(identity.encode()).hexdigest()
        return cls(
            name=long_string(f"CytoLibra {report.model.name}"),
            version=long_string(version),
            serial=long_string(serial),
            uid=derived_uid("device", version, identity),
        )


def parameters_of(report: SlideReport) -> dict[str, str]:
    """What else shaped the result: weights in full, thresholds, µm per pixel."""
    parameters = {"weights": report.model.identity or "unknown"}
    for name, threshold in report.model.threshold.items():
        parameters[f"threshold of {name}"] = f"{threshold:.4f}"
    parameters["mpp of the model"] = f"{report.model.mpp:g}"
    return parameters


def image_of(header: Header) -> Dataset:
    """The image that objects are about, as far as they need it."""
    from pydicom import Dataset

    return Dataset.from_json(dict(header))


def shared_of(maker: Maker) -> dict[str, Any]:
    """Arguments that every object of highdicom takes; UIDs are new ones each time.

    An instance that says something else, or says it at another time, must not have the UID of an
    earlier one; nor may instances by different versions be in one series.
    """
    from highdicom import UID
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    own = CodingSchemeIdentificationItem(
        OWN, name="Codes of CytoLibra", responsible_organization=MANUFACTURER
    )
    return {
        "coding_schemes": [own],
        "series_instance_uid": UID(),
        "sop_instance_uid": UID(),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": maker.name,
        "software_versions": maker.version,
        "device_serial_number": maker.serial,
        "specific_character_set": UTF_8,
    }


def coded(code: Code, meaning: str = "") -> DicomCode:
    """A code as pydicom and highdicom have it; a meaning may say more than the code's own."""
    from pydicom.sr.coding import Code as DicomCode

    return DicomCode(code.value, code.scheme, long_string(meaning or code.meaning))


def save(instance: Any, path: Path) -> None:
    """Writes an instance as a DICOM file.

    Raises:
        OSError: it can't be written.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        instance.save_as(path, enforce_file_format=True)


def be_quiet() -> None:
    """Leaves what highdicom and pydicom remark to the checks here."""
    logging.getLogger("highdicom").setLevel(logging.CRITICAL)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
