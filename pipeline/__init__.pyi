"""What `pipeline` offers, by module."""

from .screen import screen_slide as screen_slide
from .settings import ScreenSettings as ScreenSettings
