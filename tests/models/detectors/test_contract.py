"""Every detector and backbone that is registered keeps the contract that we ship."""

from models.config import BACKBONES as BACKBONE_NAMES
from models.config import DETECTORS as DETECTOR_NAMES
from models.detectors.backbones import BACKBONES
from models.detectors.build import DETECTORS
from models.detectors.contract import BackboneContract, DetectorContract

for name in DETECTORS:
    own = {"config": {"name": name, "backbone": "mobilenet_v2"}}
    globals()[f"Test_{name}"] = type(name, (DetectorContract,), own)

for name, stages in BACKBONES.items():
    globals()[f"TestBackbone_{name}"] = type(name, (BackboneContract,), {"stages": stages})


def test_names_in_the_configuration_are_those_that_can_be_built():
    assert sorted(DETECTORS) == sorted(DETECTOR_NAMES)
    assert sorted(BACKBONES) == sorted(BACKBONE_NAMES)
