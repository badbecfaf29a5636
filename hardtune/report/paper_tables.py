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
    "†": r"$\dagger$",
    "×": r"$\times$",
    "∞": r"$\infty$",
    "α": r"$\alpha$",
    "λ": r"$\lambda$",
}
"""What LaTeX would misread, or cannot show without further packages; [ and * as arguments of the line break before."""


_A_COLUMN = 5
"""Columns of figures that fit one of a paper's two columns."""


def write_tables(tables: Sequence[Table], path: Path, of: str = "") -> None:
    """Write them as LaTeX (with the package booktabs) if ``path`` ends in ``.tex``, else as Markdown.

    ``of``: whose they are; LaTeX's labels are ``tab:`` with that, the file's name and, from the second table on, ``-1``
    and so on.
    """
    if path.suffix == ".tex":
        name = re.sub(r"[^A-Za-z0-9]+", "-", f"{of}-{path.stem}").strip("-")
        written = [_latex(table, f"{name}-{number}" if number else name) for number, table in enumerate(tables)]
    else:
        written = [markdown(table) for table in tables]
    path.write_text("\n".join(written), encoding="utf-8", errors="surrogateescape")


def _latex(table: Table, label: str) -> str:
    head, *body = ([_escaped(cell) for cell in line] for line in _lines(table))
    rows = []
    for row, line in zip(table.rows, body, strict=True):
        rows.append(" & ".join(line) + r" \\" + ("\n\\midrule" if row.end_section else ""))
    title = f"{_escaped(str(table.title))}. " if table.title else ""
    alignment = "".join("r" if column.justify == "right" else "l" for column in table.columns)
    figures = alignment.partition("l")[2].count("r")  # a front's trials are numbers, but stand before the treatment
    kind = "table*" if figures > _A_COLUMN else "table"
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            rf"\begin{{{kind}}}",
            r"\centering",
            rf"\caption{{{title}{_escaped(str(table.caption))}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            " & ".join(head) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            rf"\end{{{kind}}}",
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
