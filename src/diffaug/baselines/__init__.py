"""Self-supervised methods of others on the encoders, views and training of DiffAug: what it has to be compared with."""

from diffaug.baselines._baseline import METHODS, Baseline
from diffaug.baselines._byol import BYOLSettings, byol_loss
from diffaug.baselines._dino import DINOSettings, dino_loss
from diffaug.baselines._dlme import DLMESettings, dlme_loss
from diffaug.baselines._moco import MoCoSettings, moco_loss
from diffaug.baselines._simclr import SimCLRSettings
from diffaug.baselines._simsiam import SimSiamSettings, simsiam_loss

__all__ = [
    "METHODS",
    "BYOLSettings",
    "Baseline",
    "DINOSettings",
    "DLMESettings",
    "MoCoSettings",
    "SimCLRSettings",
    "SimSiamSettings",
    "byol_loss",
    "dino_loss",
    "dlme_loss",
    "moco_loss",
    "simsiam_loss",
]
