"""Imported before tensorflow, it makes `tensorflow.keras` Keras 2 (the package tf_keras): ivis 2.0 does not run on Keras 3."""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
