"""The tables that a terminal shows, as Markdown or LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

SYMBOLS = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",
    "*": "{*}",
    "|": r"\textbar{}",
    "<": "$<$",
    ">": "$>$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "∞": r"$\infty$",
    "α": r"$\alpha$",
    "λ": r"$\lambda$",
}
"""What LaTeX would misread, or cannot show without further packages; [ and * as arguments of the line break before."""


def write_tables(tables: Sequence[Table], path: Path) -> None:
    """Write them as LaTeX (with the package booktabs) if ``path`` ends in ``.tex``, else as Markdown."""
    form = _latex if path.suffix == ".tex" else markdown
    path.write_text("\n".join(map(form, tables)), encoding="utf-8", errors="surrogateescape")


def _latex(table: Table) -> str:
    head, *body = ([_escaped(cell) for cell in line] for line in _lines(table))
    rows = []
    for row, line in zip(table.rows, body, strict=True):
        rows.append(" & ".join(line) + r" \\" + ("\n\\midrule" if row.end_section else ""))
    title = f"{_escaped(str(table.title))}. " if table.title else ""
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            rf"\caption{{{title}{_escaped(str(table.caption))}}}",
            rf"\begin{{tabular}}{{{''.join('r' if column.justify == 'right' else 'l' for column in table.columns)}}}",
            r"\toprule",
            " & ".join(head) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _escaped(text: str) -> str:
    return re.sub(r"(?<!\S)-(?=\d)", "$-$", "".join(SYMBOLS.get(sign, sign) for sign in text))  # a minus, no hyphen


def markdown(table: Table) -> str:
    """The table as Markdown, its caption below it."""
    lines = [[_literal(cell) for cell in line] for line in _lines(table)]
    head, *body = ("| " + " | ".join(line) + " |" for line in lines)
    rule = "|" + "|".join("--:" if column.justify == "right" else "---" for column in table.columns) + "|"
    title, caption = (_literal(str(text)) for text in (table.title, table.caption))
    return "\n".join([f"**{title}**", "", head, rule, *body, "", caption, ""])


def _literal(text: str) -> str:
    """With a backslash before what Markdown would misread; within a word, _ is itself."""
    return re.sub(r"[\\`*<|\[]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)


def _lines(table: Table) -> list[list[str]]:
    """The head and the rows, each cell on one line."""
    columns = [[column.header, *column.cells] for column in table.columns]
    return [[" ".join(str(cell).split()) for cell in line] for line in zip(*columns, strict=True)]
