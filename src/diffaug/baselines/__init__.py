"""Self-supervised methods of others on the encoders, views and training of DiffAug: what it has to be compared with."""

from diffaug.baselines._baseline import METHODS, Baseline
from diffaug.baselines._byol import BYOLSettings, byol_loss
from diffaug.baselines._dino import DINOSettings, dino_loss
from diffaug.baselines._dlme import DLMESettings, dlme_loss
from diffaug.baselines._gan import GANSettings, critic_loss, generator_loss
from diffaug.baselines._moco import MoCoSettings, moco_loss
from diffaug.baselines._simclr import SimCLRSettings
from diffaug.baselines._simsiam import SimSiamSettings, simsiam_loss
from diffaug.baselines._vae import VAESettings, evidence_lower_bound, kl_to_normal
from diffaug.baselines._view_generator import VIEW_GENERATORS, ViewEpoch, ViewGenerator

__all__ = [
    "METHODS",
    "VIEW_GENERATORS",
    "BYOLSettings",
    "Baseline",
    "DINOSettings",
    "DLMESettings",
    "GANSettings",
    "MoCoSettings",
    "SimCLRSettings",
    "SimSiamSettings",
    "VAESettings",
    "ViewEpoch",
    "ViewGenerator",
    "byol_loss",
    "critic_loss",
    "dino_loss",
    "dlme_loss",
    "evidence_lower_bound",
    "generator_loss",
    "kl_to_normal",
    "moco_loss",
    "simsiam_loss",
]
