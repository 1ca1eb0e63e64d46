"""``mmp completion``: the script that makes a shell complete commands and flags."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from reconciler.cli.flags import output_option
from reconciler.cli.output import Output

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_MMP_COMPLETE"
"""The variable with which click's scripts call the command."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@output_option("text", "json")
@click.pass_context
def completion(
    ctx: click.Context, /, shell: str, output_format: str, color: str, **_logging: str | None
) -> None:
    """Print the completion script of SHELL, to be evaluated at the start of the shell.

    \b
    Examples:
      bash:  echo 'eval "$(mmp completion bash)"' >> ~/.bashrc
      zsh:   echo 'eval "$(mmp completion zsh)"' >> ~/.zshrc
      fish:  mmp completion fish > ~/.config/fish/completions/mmp.fish
    """
    found = get_completion_class(shell)
    assert found is not None, "click knows these three"
    out = Output(output_format, color)
    script = found(ctx.find_root().command, {}, "mmp", VARIABLE).source()
    if out.json:
        out.document({"format": "mmp/completion/1", "shell": shell, "script": script})
    else:
        out.result(script)
