"""The page."""

from __future__ import annotations


def write_page(runner, out, rare_cells, command):
    out.mkdir(parents=True, exist_ok=True)
    t = runner.rows.table()
    print(t[t.protocol == "value"].pivot_table(index="metric", columns="method", values="value").round(3).to_string())
    print(t[t.protocol == "floor"].pivot_table(index="metric", columns="method", values="value").round(3).to_string())
    print(t[t.protocol == "score"].pivot_table(index="metric", columns="method", values="value").round(3).to_string())
    return out / "synthetic.md"
