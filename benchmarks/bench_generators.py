"""Generators tried for the default: how real their cells are, what their views keep, and what they cost.

Run: DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_generators.py [--sets mca_bladder kang_pbmc] [--render]
Resumes where it stopped; writes docs/benchmarks/results/generators.csv and docs/benchmarks/generators.md.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from _common import N_TOP_GENES, Results, machine, markdown, prepared, write_page
from sklearn.decomposition import PCA

import diffaug
from diffaug import metrics

SETS = ("mca_bladder", "kang_pbmc")
MAX_OBS = 4000
WARMUP_STEPS = 400

#: Name -> settings that differ from the default preset. All share encoder, seed and warm-up.
VARIANTS: dict[str, dict[str, dict[str, object]]] = {
    "default": {},
    "epsilon prediction": {"diffusion": {"prediction_type": "epsilon"}},
    "x0 prediction": {"diffusion": {"prediction_type": "x0"}},
    "cosine schedule": {"diffusion": {"schedule": "cosine"}},
    "depth 2": {"domain": {"generator_depth": 2}},
    "width 512, depth 2": {"domain": {"generator_width": 512, "generator_depth": 2}},
    "2000 steps": {"training": {"generator_steps": 2000}},
    "500 steps": {"training": {"generator_steps": 500}},
    "4000 steps": {"training": {"generator_steps": 4000}},
    "v1 bottleneck 500-80-500": {"domain": {"generator": "bottleneck"}},
    "Listing 2, 250 steps": {
        "domain": {"generator": "listing2", "generator_width": 2000},
        "diffusion": {"prediction_type": "epsilon"},
        "training": {"generator_steps": 250, "generator_lr": 1e-4},
    },
    "latent condition": {"diffusion": {"condition": "latent"}},
    "random condition (A2)": {"diffusion": {"condition": "noise"}},
    "DDIM, 20 trailing steps": {"diffusion": {"sampler": "ddim"}},
    "DPM-Solver++, 10 steps": {"diffusion": {"n_steps": 10}},
}


def measure(name: str, variant: str) -> dict[str, float]:
    adata = prepared(name, MAX_OBS)
    labels = adata.obs["cell_type"].astype(str).to_numpy()
    order = np.random.default_rng(0).permutation(adata.n_obs)
    train, held_out, projection = np.split(order, [int(0.7 * len(order)), int(0.85 * len(order))])
    real = {k: adata[rows].copy() for k, rows in (("T", train), ("H", held_out), ("P", projection))}
    settings = {section: dict(values) for section, values in VARIANTS[variant].items()}
    settings["training"] = {
        "warmup_steps": WARMUP_STEPS,
        "mixed_epochs": 0,
        "view_rate": 0.0,
        **settings.get("training", {}),
    }
    model = diffaug.tl.fit(real["T"], config=settings, progress=False)
    begin = time.perf_counter()
    made = diffaug.tl.generate(model, min(real["T"].n_obs, 2 * real["H"].n_obs), random_state=1)
    seconds = time.perf_counter() - begin
    dense = {k: a.X.toarray() for k, a in real.items()}
    values = made.X.toarray()
    judge = metrics.discriminator_auc(dense["H"], values, floor_reference=dense["T"], projection=dense["P"])
    genes = metrics.gene_agreement(dense["H"], values)
    pca = PCA(50, random_state=0).fit(dense["T"])
    source = real["T"].obs_names.get_indexer(made.obs["condition_cell"])
    t, s = pca.transform(dense["T"]), pca.transform(values)
    diffaug.tl.embed(made, model)
    cosine = metrics.semantic_cosine(real["T"].obsm["X_diffaug"][source], made.obsm["X_diffaug"])
    own = np.arange(len(t))
    train_steps = sum(r.seconds for r in model.history if r.phase == "B")
    return {
        "auc": judge.auc,
        "auc_floor": judge.floor,
        "class_kept": metrics.class_kept_share(s, labels[train][source], t, labels[train], source_index=source),
        "class_kept_real": metrics.class_kept_share(t, labels[train], t, labels[train], source_index=own),
        "cosine_5": float(np.quantile(cosine, 0.05)),
        "cosine_50": float(np.quantile(cosine, 0.5)),
        "pc_spread": float((s.std(axis=0) / t.std(axis=0))[:30].mean()),
        "variance_ratio": genes.variance_ratio,
        "zero_error": genes.zero_fraction_error,
        "mean_r": genes.mean_r,
        "parameters": model.n_parameters["generator"],
        "train_seconds": train_steps,
        "cells_per_second": made.n_obs / seconds,
    }


def render(results: Results) -> None:
    table = results.table.round(3).set_index(["set", "generator"])
    columns = {
        "auc": "AUC",
        "auc_floor": "AUC floor",
        "class_kept": "class kept",
        "class_kept_real": "real",
        "cosine_5": "cosine 5 %",
        "cosine_50": "cosine 50 %",
        "pc_spread": "PC spread",
        "variance_ratio": "gene variance",
        "zero_error": "zero error",
        "parameters": "parameters",
        "train_seconds": "training s",
        "cells_per_second": "cells/s",
    }
    shown = table[list(columns)].rename(columns=columns)
    shown["training s"] = shown["training s"].round().astype(int)
    shown["cells/s"] = shown["cells/s"].round().astype(int)
    write_page(
        "generators",
        f"""
# Which generator is the default, and why

Every row trains one generator on the same 70 % of the cells ({N_TOP_GENES} genes, at most {MAX_OBS} cells) after the same
warm-up of the encoder, and samples cells under the training cells' conditions. The random forest that tells them from
15 % held-out cells sees 30 principal components fitted on another 15 %; its floor is held-out against training cells.
*Class kept* is the share of cells whose nearest real neighbour (not their own condition) has the class of the condition,
*real* the same for real cells. *Cosine* is that of a cell and its view in the semantic space. *PC spread* is the mean
ratio of standard deviations on the first 30 components, *gene variance* the median ratio of gene variances, *zero error*
the mean absolute error of the genes' zero fractions. Labels only judge. One seed a row: differences in AUC under
0.02 are noise. The row *default* is the default of the time of the table: 1,000 steps, no dropout, no strata of depth. The
present one is judged in {{doc}}`synthetic`.

Command: `DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_generators.py` ({machine()}). Seconds are comparable only
within the table.

{markdown(shown)}

## Pictures

Fit of all of mca_bladder with the default of that time, 2,100 synthetic cells; the eight most variable genes.

![Violins of eight genes, real beside synthetic](../_static/mca_bladder_violin.png)

![Cosine of cells and their views](../_static/mca_bladder_cosine.png)

## What follows

- The path of each feature around the residual stream (the spike-and-slab head) is what makes the default: the same network
  without it had an AUC of .74 and .77 on mca_bladder in first trials (no rows were kept), as the first version's MLP has (.74).
- Velocity prediction beats noise prediction at equal steps (AUC .57 and .61; one set, one seed).
- 2,000 steps reached the floor on mca_bladder by learning the cells by heart, as was found later: today dropout
  keeps the generator from that ({{doc}}`../experiments`, entries 12 and 13).
- Under a random condition (A2) the marginals are as good and the class is lost: agreement of marginals proves nothing.
- The full Listing 2 has fifteen times the weights (34 million at 1,000 genes) and costs as much more a step: it was not
  trained here. The variant is in the script for a machine with a GPU.
""",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--render", action="store_true", help="only write the page from the rows that are there")
    args = parser.parse_args()
    results = Results("generators", ("set", "generator"))
    for name in args.sets if not args.render else ():
        for variant in args.variants:
            results.once(lambda n=name, v=variant: measure(n, v), set=name, generator=variant)
    render(results)


if __name__ == "__main__":
    main()
