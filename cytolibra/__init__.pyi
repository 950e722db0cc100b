from configs import ConfigError as ConfigError
from configs import CytoLibraError as CytoLibraError
from configs import Doubt as Doubt
from configs import load_config as load_config
from losses import ClassificationLoss as ClassificationLoss
from losses import grad_libra_loss as grad_libra_loss
from models import DetectorConfig as DetectorConfig
from models import ModelCard as ModelCard
from models import ModelSource as ModelSource
from models import build_detector as build_detector
from models import find_model as find_model
from models import list_models as list_models
from models import load_detector as load_detector
from models import save_detector as save_detector
from pipeline import ScreenSettings as ScreenSettings
from pipeline import screen_slide as screen_slide
from pipeline.reports.report import SlideReport as SlideReport
from pipeline.reports.writers import write_reports as write_reports

__version__: str

def main() -> None: ...
