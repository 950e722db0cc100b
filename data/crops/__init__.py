"""Crops to learn from: where they are cut, and how they are changed."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else importing it asks the network
