"""An encoder with a linear path beside its MLP: what a linear probe reads from the features themselves is not lost."""

from __future__ import annotations

from torch import Tensor, nn

from diffaug.backends.cells import CellsBackend
from diffaug.core.networks import Encoding, MLPEncoder


class LinearPathEncoder(MLPEncoder):
    """The MLP's semantic vector plus an orthogonal map of the features, which is trained like the rest."""

    def __init__(
        self, n_features: int, hidden: tuple[int, ...], n_semantic: int, n_latent: int, max_value: float
    ) -> None:
        super().__init__(n_features, hidden, n_semantic, n_latent, max_value)
        self.path = nn.Linear(n_features, n_semantic, bias=False)
        nn.init.orthogonal_(self.path.weight)

    def forward(self, x: Tensor) -> Encoding:
        x = x.clamp(-self.max_value, self.max_value)
        semantic = self.body(x) + self.path(x)
        return Encoding(semantic, self.head(semantic))


class LinearPathCells(CellsBackend):
    """Cells with that encoder. It is not registered, as it is no domain of its own."""

    def make_encoder(self) -> nn.Module:
        s = self.settings
        return LinearPathEncoder(self.n_features, s.encoder_hidden, s.n_semantic, s.n_latent, s.max_value)
