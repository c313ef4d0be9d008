"""The paper's tables of DNA and images, whose sets come split into training and test part."""

from __future__ import annotations

from diffaug.reproduce._arms import _LOOP_OFF, Arm, Artefact
from diffaug.reproduce._paper import TABLE1_MEAN, TABLE3_KMEANS, not_at_hand

_PROTOCOL = (
    "Encoder and generator are trained on the training part without labels; a "
    "linear SVM and 15 neighbours learn from the frozen features of that part and are scored on the test part, which "
    "k-means clusters. There is one official split, so an interval over seeds is one over trainings, not over splits.",
    "The learners beside DiffAug are this package's, on the same encoder, with as many encoder epochs. How the paper's own "
    "rows were made, and which they are in full, is not at hand.",
    "`+ vae', `+ gan' and `+ diffaug' differ in the generator alone: a small VAE, a small conditional GAN (docs/method.md; the "
    "paper does not define its own), or a DiffAug that was fitted as in the row `diffaug'. A positive is one of two views "
    "that it made of the event with probability 0.5, from the first epoch on. The row `diffaug' is the method as a whole: it "
    "shows its views after its warm-up, and by default lowers lambda by itself where they are poor.",
)


def _rows(where: str, *rows: tuple[str, str, bool]) -> tuple[Arm, ...]:
    """Arms of methods without changes of the settings; the last of each says whether the paper's table has it."""
    return tuple(
        Arm(key, title, method=key, paper=not_at_hand(where) if of_paper else None) for key, title, of_paper in rows
    )


_TABLE1 = Artefact(
    "table1",
    "Table 1: embeddings of DNA under a linear SVM",
    (
        Arm("diffaug", "DiffAug", paper=TABLE1_MEAN),
        _LOOP_OFF,
        *_rows(
            "Table 1",
            ("simclr + evoaug", "SimCLR, two of EvoAug's views at random", False),
            ("simclr + translocation", "SimCLR + translocation", True),
            ("simclr + reverse_complement", "SimCLR + reverse complement", True),
            ("simclr + insertion", "SimCLR + insertion", True),
            ("simclr + mixup", "SimCLR + mixup with sequences of similar words", True),
            ("simclr + vae", "SimCLR + views of a VAE", False),
            ("simclr + gan", "SimCLR + views of a GAN", False),
            ("simclr + diffaug", "SimCLR + views of DiffAug", False),
            ("random", "the same encoder, never trained", False),
            ("kmer4", "words of four bases, logistic regression (supervised)", False),
            ("cnn", "the benchmark's CNN (supervised)", True),
        ),
    ),
    reference="loop_off",
    groups=("probes",),
    notes=(
        *_PROTOCOL,
        "kmer4 and cnn learn from the labels of the training part themselves; their column `linear' is their accuracy.",
        "Flaws of the paper's sets, found from their coordinates in an analysis of which no rows were kept: the length alone "
        "solves 91.5 % of human_ensembl_regulatory; 75.6 % of the positive test intervals of human_enhancers_ensembl are training intervals; "
        "49 % of the test intervals of human_nontata_promoters overlap training ones. The paper's CNN row is shifted for "
        "human_enhancers_cohn and human_enhancers_ensembl.",
        "Genomic Benchmarks are distributed as coordinates, for which no file of sequences with a known checksum was found: "
        "put them at dna/<name> in the folder that DIFFAUG_DATA_DIR names, and name the genome with --reference.",
        "Pretrained weights (HyenaDNA, DNA-BERT, Nucleotide Transformer) are no rows here: `diffaug.dna.load_pretrained'.",
    ),
    domain="dna",
)

_TABLE3 = Artefact(
    "table3",
    "Table 3: embeddings of images under a linear SVM",
    (
        Arm("diffaug", "DiffAug", paper=not_at_hand("Table 3, mean over the sets")),
        _LOOP_OFF,
        *_rows(
            "Table 3",
            ("simclr", "SimCLR", True),
            ("moco", "MoCo v2", True),
            ("byol", "BYOL", True),
            ("simsiam", "SimSiam", True),
            ("dino", "DINO", True),
            ("simclr + mixup", "SimCLR, half of the views by mixup", True),
            ("simclr + vae", "SimCLR + views of a VAE", True),
            ("simclr + gan", "SimCLR + views of a GAN", True),
            ("simclr + diffaug", "SimCLR + views of DiffAug", False),
            ("byol + diffaug", "BYOL + views of DiffAug", False),
            ("simsiam + diffaug", "SimSiam + views of DiffAug", False),
            ("random", "the same encoder, never trained", False),
            ("raw", "pixels", False),
        ),
    ),
    reference="loop_off",
    groups=("probes",),
    notes=(
        *_PROTOCOL,
        "Of STL-10 the unlabelled images are trained on too.",
        "Under which learner the paper put its rows + mixup, + VAE and + GAN is not at hand; here it is SimCLR.",
        "Learners have a hand-made view on both sides of a pair, as in their papers; DiffAug and its twin have an image and "
        "one view of it.",
        "The paper's k-means accuracies of DiffAug: "
        + ", ".join(f"{name} {number.value}" for name, number in TABLE3_KMEANS.items())
        + ".",
        "The soft loss has the paper's nu of each set: `dof_latent' 1 for CIFAR-10, 2 for CIFAR-100, 5 for STL-10, 3 for "
        "TinyImageNet. InfoNCE has none.",
        "The paper's baselines are below what methods of this kind reach today with ResNet-18 on CIFAR-10 (SimCLR 90.7, "
        "MoCo v2+ 92.9, BYOL 92.6: solo-learn).",
    ),
    domain="vision",
    by_set={
        "cifar100": {"loss": {"dof_latent": 2.0}},
        "stl10": {"loss": {"dof_latent": 5.0}},
        "tinyimagenet": {"loss": {"dof_latent": 3.0}},
    },
)

#: Tables of the domains whose sets come split.
SPLIT_ARTEFACTS = {a.name: a for a in (_TABLE1, _TABLE3)}
