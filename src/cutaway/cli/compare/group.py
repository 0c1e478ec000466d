"""`cutaway compare`: parts of one kind beside each other, measured on the same thing. A line for each kind.

Read next: cli/compare/measuring.py, lab/compare/comparison.py
"""

from __future__ import annotations

import typer

from cutaway.cli.compare.activations import activations
from cutaway.cli.compare.attention import attention
from cutaway.cli.compare.exits import exits
from cutaway.cli.compare.experts import experts
from cutaway.cli.compare.length import length
from cutaway.cli.compare.matmul import matmul
from cutaway.cli.compare.measuring import HELP
from cutaway.cli.compare.norms import norms
from cutaway.cli.compare.positions import positions
from cutaway.cli.compare.precision import precision
from cutaway.cli.compare.tokenizers import tokenizers
from cutaway.cli.console import results

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, context_settings=HELP, help="Put parts of one kind beside each other."
)


@app.callback(invoke_without_command=True)
def _start(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        results().print(context.get_help(), markup=False, soft_wrap=True)


app.command(context_settings=HELP)(attention)
app.command(context_settings=HELP)(positions)
app.command(context_settings=HELP)(norms)
app.command(context_settings=HELP)(activations)
app.command(context_settings=HELP)(experts)
app.command(context_settings=HELP)(exits)
app.command(context_settings=HELP)(length)
app.command(context_settings=HELP)(precision)
app.command(context_settings=HELP)(matmul)
app.command(context_settings=HELP)(tokenizers)
